# Snapshots are applied and go.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 256k" t; qemu-img snapshot -c s1 t
io -c "write -P 2 0 128k" t; io -c "read -P 2 0 128k" t
qemu-img snapshot -l t
qemu-img snapshot -a s1 t; io -c "read -P 1 0 256k" t
qemu-img snapshot -d s1 t; sound t
