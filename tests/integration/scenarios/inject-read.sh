# A read that fails once works when it is repeated.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
st io --image-opts -c "read -P 1 0 64k" -c "read -P 1 0 64k" \
    $(dbg t)$(fails read_aio)
st io --image-opts -c "read -P 1 0 64k" -c "read -P 1 0 64k" \
    $(dbg t)$(fails read_aio off)
