# An L2 table that cannot be written back leaves leaks at worst.
. "${0%/*}/helpers"
for event in l2_update l2_update_compressed; do
    for once in on off; do
        new t 1M; io -c "write -q -P 1 0 64k" t
        flag=$([ $event = l2_update ] || echo -c)
        io --image-opts -c "write -q $flag -P 2 64k 64k" \
            $(dbg t)$(fails $event $once) >/dev/null
        mended t
        io -c "read -P 1 0 64k" -c "write -P 3 64k 64k" \
            -c "read -P 3 64k 64k" t
        mended t
    done
done
