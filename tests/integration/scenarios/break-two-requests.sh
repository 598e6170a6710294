# Two reads stand still at two breakpoints and go on one by one.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" -c "write -P 2 64k 64k" t
io --image-opts -c "break read_aio A" -c "aio_read -P 1 0 64k" \
    -c "wait_break A" -c "break read_aio B" -c "aio_read -P 2 64k 64k" \
    -c "wait_break B" -c "resume A" -c "resume B" -c aio_flush $(dbg t) | sort
