# A refcount block that cannot be loaded: nothing is allocated.
. "${0%/*}/helpers"
for once in on off; do
    new t 1M; io -c "write -q -P 1 0 64k" t
    io --image-opts -c "write -q -P 2 64k 64k" \
        $(dbg t)$(fails refblock_load $once) >/dev/null
    mended t
    io -c "read -P 1 0 64k" -c "write -P 3 64k 64k" -c "read -P 3 64k 64k" t
    mended t
done
