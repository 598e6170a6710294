# An image whose magic is gone is no qcow2 image.
. "${0%/*}/helpers"
new t 1M; poke t 0 'X'
st qemu-img info -f qcow2 t; st io -f qcow2 -c "read 0 512" t
st qemu-img check -f qcow2 t
qemu-img info t | grep format
rm t
