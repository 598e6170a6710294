# A write that fails once works when it is repeated.
. "${0%/*}/helpers"
new t 1M
st io --image-opts -c "write -P 1 0 64k" -c "write -P 2 0 64k" \
    $(dbg t)$(fails write_aio)
io -c "read -P 2 0 64k" t
sound t
