# An L2 entry that is not aligned: the image is marked when it is met.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 128k" t
poke t $(($(l2_of t) + 6)) '\002'
io -r -c "read 0 512" t; qemu-img info t | grep corrupt
st io -c "read 0 512" t; qemu-img info t | grep corrupt
st io -c "read -P 1 64k 64k" t; st io -r -c "read -P 1 64k 64k" t
quiet qemu-img convert -O raw t out; rm -f out
