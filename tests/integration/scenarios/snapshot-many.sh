# Thirty snapshots, deleted in another order than they came.
. "${0%/*}/helpers"
new t 1M
for i in $(seq 30); do
    io -c "write -q -P $i $((i*32))k 32k" t; qemu-img snapshot -c s$i t
done
qemu-img snapshot -l t | wc -l
for i in $(seq 2 2 30) $(seq 29 -4 1); do qemu-img snapshot -d s$i t; done
qemu-img snapshot -l t
sound t
qemu-img snapshot -a s3 t
io -c "read -P 3 96k 32k" -c "read -P 0 128k 32k" t
sound t
