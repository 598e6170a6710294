# A rule for one kind of request lets the others pass.
. "${0%/*}/helpers"
qemu-img create -q -f raw t 1M
for kind in read write flush discard write-zeroes; do
    st io -t writeback --image-opts -c "read 0 4k" -c "write 0 4k" -c flush \
        -c "discard 0 4k" -c "write -z 0 4k" \
        driver=raw,file.driver=blkdebug,file.image.filename=t,\
file.inject-error.0.event=none,file.inject-error.0.iotype=$kind
done
