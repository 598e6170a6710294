# Writes into neighbouring new clusters, ending in the other order.
. "${0%/*}/helpers"
new t 1M
io --image-opts -c "break write_aio A" -c "aio_write -P 1 0 64k" \
    -c "wait_break A" -c "break write_aio B" -c "aio_write -P 2 64k 64k" \
    -c "wait_break B" -c "resume B" -c "resume A" -c aio_flush $(dbg t) | sort
io -c "read -P 1 0 64k" -c "read -P 2 64k 64k" t
sound t
