# Clusters that are copied up, and reading what they are copied from.
. "${0%/*}/helpers"
new base 1M; io -c "write -q -P 1 0 1M" base
# The backing file is not below blkdebug: the next request to this file fails.
new -b base -F qcow2 t
st io --image-opts -c "read -P 1 0 64k" $(dbg t)$(fails read_backing_aio off)
io -c "write -q -P 2 64k 64k" t
st io --image-opts -c "read -P 1 0 64k" -c "read -P 2 64k 64k" \
    $(dbg t)$(fails read_backing_aio off)
mended t
io -c "read -P 1 0 64k" -c "read -P 2 64k 64k" t
# Copy-on-read: what cannot be kept is told.
for once in on off; do
    new -b base -F qcow2 t
    st io -C --image-opts -c "read -P 1 0 64k" \
        driver=blkdebug,image.driver=qcow2,image.file.filename=t$(
        )$(fails cor_write $once | sed s/file.inject/inject/g)
    mended t
    io -c "read -P 1 0 1M" -c map t
done
# The clusters around a small write.
for once in on off; do
    new t 1M; io -c "write -q -P 1 0 64k" t
    st io --image-opts -c "write -P 2 68k 4k" \
        $(dbg t)$(fails cluster_alloc_space $once)
    mended t
    io -c "read -P 1 0 64k" -c "write -P 3 68k 4k" -c "read -P 3 68k 4k" \
        -c "read -P 0 64k 4k" -c "read -P 0 72k 56k" t
    mended t
done
