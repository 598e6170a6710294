# Clusters that cannot be allocated.
. "${0%/*}/helpers"
for event in cluster_alloc cluster_alloc_bytes; do
    for once in on off; do
        new t 1M
        io --image-opts -c "write -q -P 1 0 64k" -c "write -q -c -P 1 64k 64k" \
            $(dbg t)$(fails $event $once) >/dev/null
        mended t
        io -c "write -P 3 0 128k" -c "read -P 3 0 128k" t
        mended t
    done
done
