# convert -l takes a snapshot out of an image.
. "${0%/*}/helpers"
new t 1M
for i in 1 2; do io -c "write -P $i 0 64k" t; qemu-img snapshot -c s$i t; done
io -c "write -P 9 0 64k" t
qemu-img convert -l s1 -O qcow2 t one
qemu-img convert -l snapshot.id=2 -O raw t two
io -c "read -P 1 0 64k" one; io -f raw -c "read -P 2 0 64k" two
st qemu-img convert -l nosuch -O raw t three
check one
