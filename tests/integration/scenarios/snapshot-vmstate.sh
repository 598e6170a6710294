# Vmstate that was written is not part of a later snapshot's disk.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" -c "write -b -P 9 0 128k" t
qemu-img snapshot -c s t; qemu-img snapshot -l t
io -c "read -P 1 0 64k" -c "write -P 2 0 64k" t
qemu-img snapshot -a s t; io -c "read -P 1 0 64k" t
qemu-img snapshot -d s t; mended t; rm t
