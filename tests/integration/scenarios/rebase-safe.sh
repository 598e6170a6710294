# After a safe rebase the disk reads as before.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a; new b 1M; io -c "write -P 2 0 512k" b
new -b a -F qcow2 t; io -c "write -P 3 64k 64k" t
st qemu-img rebase -b b -F qcow2 t
io -c "read -P 1 0 64k" -c "read -P 3 64k 64k" -c "read -P 1 128k 896k" t
qemu-img info t | grep backing; sound t
