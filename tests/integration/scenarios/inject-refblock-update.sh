# A refcount block that cannot be written back leaves leaks at worst.
. "${0%/*}/helpers"
for event in refblock_update refblock_update_part; do
    new t 1M; io -c "write -q -P 1 0 64k" t
    io --image-opts -c "write -q -P 2 64k 64k" \
        $(dbg t)$(fails $event off) >/dev/null
    mended t
    io -c "read -P 1 0 64k" -c "write -P 3 64k 64k" -c "read -P 3 64k 64k" t
done
