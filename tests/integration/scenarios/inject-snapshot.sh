# A snapshot that cannot be made is not there.
. "${0%/*}/helpers"
for event in write_aio flush_to_disk reftable_load refblock_load l1_update; do
    new t 1M; io -c "write -q -P 1 0 64k" t
    qemu-img snapshot -c good t
    qemu-img snapshot --image-opts -c bad $(dbg t)$(fails $event off) \
        >/dev/null
    mended t
    io -c "read -P 1 0 64k" t
    qemu-img snapshot -a good t; io -c "read -P 1 0 64k" t
    rm t
done
