# An L2 table that cannot be loaded: neither read nor written there.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
for once in on off; do
    st io --image-opts -c "read -P 1 0 64k" -c "read -P 1 0 64k" \
        $(dbg t)$(fails l2_load $once)
    st io --image-opts -c "write -P 1 0 64k" -c "write -P 1 0 64k" \
        $(dbg t)$(fails l2_load $once)
done
io -c "read -P 1 0 64k" t; sound t
