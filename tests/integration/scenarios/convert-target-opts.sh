# Source and target named by options.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 100k" a; new t 1M
st qemu-img convert -n --image-opts --target-image-opts \
    driver=qcow2,file.driver=file,file.filename=a \
    driver=qcow2,file.filename=t,lazy-refcounts=on
alike a t; sound t
rm t
