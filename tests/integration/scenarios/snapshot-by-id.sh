# A snapshot is applied by its id and by its name.
. "${0%/*}/helpers"
new t 1M
for i in 1 2 3; do io -c "write -P $i 0 64k" t; qemu-img snapshot -c n$i t; done
qemu-img snapshot -a 2 t; io -c "read -P 2 0 64k" t
qemu-img snapshot -a n3 t; io -c "read -P 3 0 64k" t
st qemu-img snapshot -a 7 t
st qemu-img snapshot -d n7 t
sound t
