# Shrinking an image that has snapshots.
. "${0%/*}/helpers"
new t 2M; io -c "write -P 1 0 2M" t; qemu-img snapshot -c s t
st qemu-img resize t 3M
st qemu-img resize --shrink t 1M
qemu-img snapshot -a s t; io -c length -c "read -P 1 0 2M" t
sound t
