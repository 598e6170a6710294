# Grown: zeroes behind the old end.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 1M" t
st qemu-img resize t 2M; st qemu-img resize t +1M; st qemu-img resize -q t 4M
io -c length -c "read -P 1 0 1M" -c "read -P 0 1M 3M" t
check t
