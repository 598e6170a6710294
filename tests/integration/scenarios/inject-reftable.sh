# The refcount table cannot be loaded or grow.
. "${0%/*}/helpers"
new -o cluster_size=512 t 4M; io -c "write -q -P 1 0 64k" t
st io --image-opts -c "read -P 1 0 64k" $(dbg t)$(fails reftable_load off)
for event in reftable_grow reftable_update; do
    io --image-opts -c "write -q -P 2 64k 2M" $(dbg t)$(fails $event off) \
        >/dev/null
    mended t
done
io -c "read -P 1 0 64k" -c "write -P 3 64k 3M" -c "read -P 3 64k 3M" t
mended t
