# An L1 entry that leads nowhere good: the image is marked, reads fail.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
poke t $(($(l1_of t) + 6)) '\002'
st io -c "read 0 512" t; st io -c "write 0 512" t
qemu-img info t | grep corrupt
st io -c "write 0 512" t; st io -r -c "read 0 512" t
