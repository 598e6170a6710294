# Killed while copy-on-write stands still: the old data stays.
. "${0%/*}/helpers"
for event in cow_read cow_write; do
    new base 1M; io -c "write -q -P 1 0 1M" base
    new -b base -F qcow2 t
    st io --image-opts -c "break $event A" -c "aio_write -P 2 66k 1k" \
        -c "wait_break A" -c "sigraise 9" $(dbg t)
    sound -r leaks t; sound t
    io -c "read -P 1 0 1M" t
    rm t
done
