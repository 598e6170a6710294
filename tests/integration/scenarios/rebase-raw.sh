# To a raw backing file and back.
. "${0%/*}/helpers"
qemu-img create -q -f raw r 1M; io -f raw -c "write -P 5 0 512k" r
new a 1M; io -c "write -P 1 0 1M" a
new -b a -F qcow2 t
st qemu-img rebase -b r -F raw t; io -c "read -P 1 0 1M" t
st qemu-img rebase -b a -F qcow2 t; io -c "read -P 1 0 1M" t
sound t
