# From one format to the other and back, the contents are the same.
. "${0%/*}/helpers"
new a 4M; io -c "write -P 1 0 100k" -c "write -P 2 1M 1M" -c "write -z 3M 64k" a
st qemu-img convert -f qcow2 -O raw a r
st qemu-img convert -f raw -O qcow2 r b
alike a r; alike a b
sound b
