# Refcounts of another width.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 300k" t; qemu-img snapshot -c s t
st qemu-img amend -o refcount_bits=1 t
st qemu-img amend -o refcount_bits=64 t; qemu-img info t | grep refcount
sound t
qemu-img snapshot -d s t; st qemu-img amend -o refcount_bits=1 t
sound t; io -c "read -P 1 0 300k" t
