# Killed while an allocating write stands still at each of its steps.
. "${0%/*}/helpers"
for event in l2_load cluster_alloc write_aio; do
    new t 4M; io -c "write -q -P 1 1M 64k" t
    st io --image-opts -c "break $event A" -c "aio_write -P 2 2M 64k" \
        -c "wait_break A" -c "sigraise 9" $(dbg t)
    sound -r leaks t; sound t
    io -c "read -P 1 1M 64k" -c "read -P 0 2M 64k" t
    rm t
done
