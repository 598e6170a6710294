# A flush while a write stands still returns.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 128k" t
io --image-opts -c "break write_aio A" -c "aio_write -q -P 2 0 64k" \
    -c "wait_break A" -c flush -c "resume A" -c aio_flush \
    -c "read -P 2 0 64k" $(dbg t)
sound t
