# To extended L2 entries and from there.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 1k 3k" -c "write -P 2 512k 72k" a
st qemu-img convert -O qcow2 -o extended_l2=on a t; alike a t; sound t
st qemu-img convert -O qcow2 t back; alike a back; sound back
