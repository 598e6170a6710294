# The state of a machine that cannot be written or read.
. "${0%/*}/helpers"
new t 1M; io -c "write -q -P 1 0 64k" -c "write -b -q -P 2 0 64k" t
st io --image-opts -c "write -b -P 3 0 64k" $(dbg t)$(fails vmstate_save off)
mended t
io -c "write -b -P 4 0 64k" -c "read -b -P 4 0 64k" t
st io --image-opts -c "read -b -P 4 0 64k" -c "read -b -P 4 0 64k" \
    $(dbg t)$(fails vmstate_load)
st io --image-opts -c "read -b -P 4 0 64k" $(dbg t)$(fails vmstate_load off)
io -c "read -b -P 4 0 64k" -c "read -P 1 0 64k" t
mended t
