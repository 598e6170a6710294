# What measure says is what convert makes.
. "${0%/*}/helpers"
new a 8M; io -c "write -P 1 0 320k" -c "write -P 2 4M 1M" a
for o in cluster_size=64k cluster_size=4k refcount_bits=64 extended_l2=on; do
    size=$(qemu-img measure -O qcow2 -o $o a | sed -n 's/required size: //p')
    qemu-img convert -S 0 -O qcow2 -o $o a t
    echo "$o $size"; [ $(stat -c %s t) -le $size ] && echo fits
    rm t
done
qemu-img measure -O raw a; qemu-img measure --size 1T -O qcow2
qemu-img measure --output=json -O qcow2 a
