# Copy-on-write stands still while its neighbours are written.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base
new -b base -F qcow2 t
io --image-opts -c "break cow_read A" -c "aio_write -q -P 2 66k 1k" \
    -c "wait_break A" -c "write -P 3 0 64k" -c "write -P 4 128k 64k" \
    -c "resume A" -c aio_flush $(dbg t)
io -c "read -P 3 0 64k" -c "read -P 1 64k 2k" -c "read -P 2 66k 1k" \
    -c "read -P 1 67k 61k" -c "read -P 4 128k 64k" t
sound t
