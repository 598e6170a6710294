# A compressed write and a plain one into the next cluster.
. "${0%/*}/helpers"
new t 1M
io --image-opts -c "break write_aio A" -c "aio_write -q -P 1 0 64k" \
    -c "wait_break A" -c "write -c -P 2 64k 64k" -c "resume A" -c aio_flush \
    $(dbg t)
io -c "read -P 1 0 64k" -c "read -P 2 64k 64k" t
sound t
