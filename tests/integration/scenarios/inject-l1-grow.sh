# An L1 table that cannot grow: the old size stays.
. "${0%/*}/helpers"
for event in l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table
do
    for once in on off; do
        new -o cluster_size=512 t 1M; io -c "write -q -P 1 0 1M" t
        io --image-opts -c "truncate 64M" $(dbg t)$(fails $event $once) \
            >/dev/null
        mended t
        io -c "read -P 1 0 1M" -c "truncate 64M" -c length \
            -c "write -P 2 63M 64k" -c "read -P 2 63M 64k" t
        mended t
    done
done
