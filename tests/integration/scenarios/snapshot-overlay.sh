# A snapshot of an overlay keeps showing the backing file.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base
new -b base -F qcow2 t; io -c "write -P 2 0 64k" t
qemu-img snapshot -c s t
io -c "write -P 3 0 256k" t
qemu-img snapshot -a s t
io -c "read -P 2 0 64k" -c "read -P 1 64k 960k" t
sound t
