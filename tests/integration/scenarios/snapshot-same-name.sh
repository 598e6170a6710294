# Two snapshots may have one name; the first of them is meant.
. "${0%/*}/helpers"
new t 1M
for i in 1 2; do io -c "write -P $i 0 64k" t; st qemu-img snapshot -c s t; done
qemu-img snapshot -l t
qemu-img snapshot -a s t; io -c "read -P 1 0 64k" t
qemu-img snapshot -d s t; qemu-img snapshot -l t
sound t
