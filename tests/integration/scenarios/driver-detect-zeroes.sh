# Zeroes that are written become zero clusters, if that is asked for.
. "${0%/*}/helpers"
for mode in off on unmap; do
    new t 1M; io -c "write -q -P 1 0 256k" t
    io --image-opts -c "write -P 0 64k 64k" \
        driver=qcow2,file.filename=t,detect-zeroes=$mode,discard=unmap
    qemu-img map --output=json t | sed 's/, "offset": [0-9]*//'
    io -c "read -P 0 64k 64k" t; sound t
done
