# A new L2 table that cannot be written or linked.
. "${0%/*}/helpers"
for event in l2_alloc_write l1_update; do
    for once in on off; do
        new t 1M
        io --image-opts -c "write -q -P 1 0 64k" -c "write -q -P 2 64k 64k" \
            $(dbg t)$(fails $event $once) >/dev/null
        mended t
        st io -c "write -P 3 0 128k" -c "read -P 3 0 128k" t
        mended t
    done
done
