# Into an image that exists: its old contents are gone.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 64k 64k" a
new t 1M; io -c "write -P 9 0 1M" t
st qemu-img convert -n -O qcow2 a t; alike a t; sound t
new z 1M
st qemu-img convert -n --target-is-zero -O qcow2 a z; alike a z; sound z
new small 512k; st qemu-img convert -n -O qcow2 a small
st qemu-img convert --target-is-zero -O qcow2 a other
rm -f t small
