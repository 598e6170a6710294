# A second write into a cluster whose copy-on-write stands still waits.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base
new -b base -F qcow2 t
io --image-opts -c "break cow_write A" -c "aio_write -q -P 2 66k 1k" \
    -c "wait_break A" -c "aio_write -q -P 3 70k 1k" -c "resume A" \
    -c aio_flush $(dbg t)
io -c "read -P 1 64k 2k" -c "read -P 2 66k 1k" -c "read -P 1 67k 3k" \
    -c "read -P 3 70k 1k" -c "read -P 1 71k 57k" t
check t
