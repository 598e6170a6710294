# Zeroes for another cluster while a write stands still.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 256k" t
io --image-opts -c "break write_aio A" -c "aio_write -q -P 2 0 64k" \
    -c "wait_break A" -c "write -z 128k 64k" -c "resume A" -c aio_flush $(dbg t)
io -c "read -P 2 0 64k" -c "read -P 1 64k 64k" -c "read -P 0 128k 64k" t
sound t
