# A write elsewhere while a read stands still.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 4 0 64k" t
io --image-opts -c "break read_aio R" -c "aio_read -P 4 0 64k" \
    -c "wait_break R" -c "write -P 5 512k 64k" -c "resume R" -c aio_flush \
    $(dbg t)
io -c "read -P 5 512k 64k" t
sound t
