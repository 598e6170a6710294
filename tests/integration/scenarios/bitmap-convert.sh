# convert --bitmaps takes them along.
. "${0%/*}/helpers"
new a 1M; qemu-img bitmap --add a x; qemu-img bitmap --add --disable -g 4k a y
io -c "write -P 1 0 64k" a
st qemu-img convert --bitmaps -O qcow2 a t; qemu-img info t
sound t
st qemu-img convert -O qcow2 a u; qemu-img info u | grep -c bitmaps || true
