# A flush that fails is told.
. "${0%/*}/helpers"
new t 1M
st io --image-opts -c "write -q -P 1 0 64k" -c flush -c flush \
    $(dbg t)$(fails flush_to_os)
mended t
io -c "write -P 3 0 64k" -c "read -P 3 0 64k" t
