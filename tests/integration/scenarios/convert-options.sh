# Cache modes, quiet, workers, preallocation, progress.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 100k" a
st qemu-img convert -q -t none -T none -O qcow2 a t1
st qemu-img convert -t unsafe -T unsafe -m 1 -O qcow2 a t2
st qemu-img convert -O qcow2 -o preallocation=metadata a t3
st qemu-img convert -m 16 -W -O raw a t4
st qemu-img convert -t nosuch -O raw a t5; st qemu-img convert -m 99 a t6
for i in 1 2 3 4; do alike a t$i; done
rm -f t5 t6
