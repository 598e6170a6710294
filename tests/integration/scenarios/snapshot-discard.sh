# Discarding what a snapshot holds keeps it there.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 1M" t; qemu-img snapshot -c s t
io -c "discard 0 512k" -c "read -P 0 0 512k" t
qemu-img snapshot -a s t; io -c "read -P 1 0 1M" t
qemu-img snapshot -d s t; sound t
