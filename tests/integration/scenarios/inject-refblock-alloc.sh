# A refcount block that cannot be made.
. "${0%/*}/helpers"
for event in refblock_alloc refblock_alloc_hookup refblock_alloc_write \
    refblock_alloc_write_blocks refblock_alloc_write_table \
    refblock_alloc_switch_table; do
    for once in on off; do
        new -o cluster_size=512 t 1M
        io --image-opts -c "write -q -P 1 0 512k" \
            $(dbg t)$(fails $event $once) >/dev/null
        mended t
        io -c "write -P 3 0 512k" -c "read -P 3 0 512k" t
        mended t
    done
done
