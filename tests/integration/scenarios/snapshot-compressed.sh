# Compressed clusters are shared with a snapshot and written over.
. "${0%/*}/helpers"
new t 1M; io -c "write -c -P 1 0 64k" -c "write -c -P 2 64k 64k" t
qemu-img snapshot -c s t
io -c "write -P 3 0 64k" -c "write -P 4 70k 1k" t
io -c "read -P 3 0 64k" -c "read -P 2 64k 6k" -c "read -P 4 70k 1k" t
qemu-img snapshot -a s t; io -c "read -P 1 0 64k" -c "read -P 2 64k 64k" t
qemu-img snapshot -d s t; sound t
