# One write overtakes another one, in another cluster.
. "${0%/*}/helpers"
new t 4M
io --image-opts -c "break write_aio A" -c "aio_write -P 1 0 64k" \
    -c "wait_break A" -c "write -P 2 1M 64k" -c "resume A" -c aio_flush $(dbg t)
io -c "read -P 1 0 64k" -c "read -P 2 1M 64k" t; sound t
