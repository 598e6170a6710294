# Grown over a longer backing file: what lies there does not appear.
. "${0%/*}/helpers"
new base 4M; io -c "write -P 1 0 4M" base
new -b base -F qcow2 t 1M
st qemu-img resize t 2M
io -c "read -P 1 0 1M" -c "read -P 0 1M 1M" t
check t
