# The size by amend; the backing file stays.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a
new -b a -F qcow2 t
st qemu-img amend -o size=2M t
qemu-img info t; io -c "read -P 1 0 1M" -c "read -P 0 1M 1M" t
