# A compressed cluster that cannot be read or written.
. "${0%/*}/helpers"
for event in write_compressed cluster_alloc_bytes; do
    new t 1M; io -c "write -q -P 1 64k 64k" t
    st io --image-opts -c "write -c -P 2 0 64k" \
        $(dbg t)$(fails $event off)
    mended t
    io -c "read -P 1 64k 64k" -c "read -P 0 0 64k" -c "write -c -P 3 0 64k" \
        -c "read -P 3 0 64k" t
done
st io --image-opts -c "read -P 3 0 64k" -c "read -P 3 0 64k" \
    $(dbg t)$(fails read_compressed)
# Part of it is written: the rest has to be read.
st io --image-opts -c "write -P 4 4k 4k" $(dbg t)$(fails read_compressed off)
mended t
io -c "read -P 3 0 64k" -c "write -P 4 4k 4k" -c "read -P 4 4k 4k" \
    -c "read -P 3 8k 56k" t
mended t
