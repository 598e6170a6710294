# Clusters that cannot be freed are leaks.
. "${0%/*}/helpers"
new t 1M; io -c "write -q -P 1 0 256k" t
io --image-opts -c "discard 0 64k" $(dbg t)$(fails cluster_free off) >/dev/null
mended t
io -c "read -P 1 64k 192k" -c "write -P 2 0 64k" -c "read -P 2 0 64k" t
mended t
