# rebase -u changes the name only.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a; new b 1M; io -c "write -P 2 0 1M" b
new -b a -F qcow2 t; io -c "write -P 3 64k 64k" t
st qemu-img rebase -u -b b -F qcow2 t
io -c "read -P 2 0 64k" -c "read -P 3 64k 64k" t
st qemu-img rebase -u -b "" t
io -c "read -P 0 0 64k" -c "read -P 3 64k 64k" t; qemu-img info t
