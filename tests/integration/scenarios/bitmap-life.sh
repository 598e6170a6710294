# A bitmap is added, recorded in, cleared, removed.
. "${0%/*}/helpers"
new t 1M; st qemu-img bitmap --add -g 64k t b
io -c "write -P 1 0 64k" -c "write -P 2 512k 1k" t
qemu-img info t | sed -n '/bitmaps/,$p'
st qemu-img bitmap --disable t b; io -c "write -P 3 128k 64k" t
st qemu-img bitmap --enable t b; st qemu-img bitmap --clear t b
st qemu-img bitmap --remove t b; qemu-img info t | grep -c bitmaps
sound t
