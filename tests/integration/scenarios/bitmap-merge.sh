# Merged from the same image and from another one.
. "${0%/*}/helpers"
new a 1M; qemu-img bitmap --add a x; io -c "write -P 1 0 64k" a
new b 1M; qemu-img bitmap --add b y; io -c "write -P 1 512k 64k" b
st qemu-img bitmap --add --merge y -b b -F qcow2 a z
st qemu-img bitmap --merge x a z
st qemu-img bitmap --merge nosuch a z; st qemu-img bitmap --merge y -b nosuch a z
qemu-img info a | sed -n '/bitmaps/,$p'
sound a; sound b
