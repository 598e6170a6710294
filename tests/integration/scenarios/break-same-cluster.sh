# Two writes into one new cluster, the first of which stands still.
. "${0%/*}/helpers"
new t 1M
io --image-opts -c "break write_aio A" -c "aio_write -P 1 0 4k" \
    -c "wait_break A" -c "aio_write -q -P 2 8k 4k" -c "resume A" \
    -c aio_flush $(dbg t) | sort
io -c "read -P 1 0 4k" -c "read -P 0 4k 4k" -c "read -P 2 8k 4k" t
check t
