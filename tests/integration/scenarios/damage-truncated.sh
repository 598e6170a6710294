# A file that was cut off: the header alone, half of it, nothing.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
for size in 100 20 4 0; do
    truncate -s $size t
    quiet qemu-img info -f qcow2 t; st io -f qcow2 -c "read 0 512" t
done
