# An L2 table that is shared with a snapshot and cannot be copied.
. "${0%/*}/helpers"
for event in l2_alloc_cow_read l2_alloc_write l1_update; do
    new t 1M; io -c "write -q -P 1 0 64k" t; qemu-img snapshot -c s t
    io --image-opts -c "write -q -P 2 0 64k" $(dbg t)$(fails $event off) \
        >/dev/null
    mended t
    io -c "write -P 3 0 64k" -c "read -P 3 0 64k" t
    qemu-img snapshot -a s t; io -c "read -P 1 0 64k" t
    mended t
done
