# Bitmaps and a resize, a snapshot.
. "${0%/*}/helpers"
new t 1M; qemu-img bitmap --add t b; io -c "write -P 1 0 64k" t
st qemu-img resize t 2M; io -c "write -P 1 1M 64k" t
st qemu-img snapshot -c s t
qemu-img info t | sed -n '/bitmaps/,$p'; sound t
