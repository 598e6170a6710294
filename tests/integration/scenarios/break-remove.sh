# A breakpoint that was removed stops nobody.
. "${0%/*}/helpers"
new t 1M
st io --image-opts -c "break write_aio A" -c "remove_break A" \
    -c "write -P 1 0 64k" -c "remove_break A" -c "resume A" $(dbg t)
io -c "read -P 1 0 64k" t
