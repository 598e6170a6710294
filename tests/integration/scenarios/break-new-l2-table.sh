# Two writes need the same new L2 table.
. "${0%/*}/helpers"
new t 1G
io --image-opts -c "break l2_alloc_write A" -c "aio_write -P 1 0 64k" \
    -c "wait_break A" -c "aio_write -P 2 10M 64k" -c "resume A" \
    -c aio_flush $(dbg t) | sort
io -c "read -P 1 0 64k" -c "read -P 2 10M 64k" t
sound t
