# Several sources, one behind the other.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a
qemu-img create -q -f raw b 512k; io -f raw -c "write -P 2 0 512k" b
st qemu-img convert -O qcow2 a b a t
io -c length -c "read -P 1 0 1M" -c "read -P 2 1M 512k" -c "read -P 1 1536k 1M" t
sound t
