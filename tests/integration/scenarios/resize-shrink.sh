# Shrinking needs --shrink, and what was cut off does not come back.
. "${0%/*}/helpers"
new t 2M; io -c "write -P 1 0 2M" t
st qemu-img resize t 1M; st qemu-img resize --shrink t 1M
st qemu-img resize t 2M
io -c "read -P 1 0 1M" -c "read -P 0 1M 1M" t
check t
