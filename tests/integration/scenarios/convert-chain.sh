# A chain becomes one image, or an overlay of the same base.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a
new -b a -F qcow2 b; io -c "write -P 2 64k 64k" -c "write -z 256k 64k" b
st qemu-img convert -O qcow2 b flat
st qemu-img convert -O qcow2 -B a -F qcow2 b over
alike b flat; alike b over
qemu-img info over | grep backing; io -c map over
sound over
