# Compressed with zlib and zstd, and with several workers.
. "${0%/*}/helpers"
new a 4M; io -c "write -P 1 0 300k" -c "write -P 2 1M 1M" a
st qemu-img convert -c -O qcow2 a z
st qemu-img convert -c -W -m 4 -O qcow2 -o compression_type=zstd a zs
st qemu-img convert -c -O qcow2 -o cluster_size=4k z small
for i in z zs small; do alike a $i; sound $i; done
