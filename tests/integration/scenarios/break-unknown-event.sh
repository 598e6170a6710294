# A breakpoint at an event that nobody knows.
. "${0%/*}/helpers"
new t 1M
st io --image-opts -c "break nosuch A" -c "write -P 1 0 64k" $(dbg t)
st io -c "break write_aio A" -c "write -P 1 0 64k" t
