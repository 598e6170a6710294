# Refcounts of one bit cannot count a snapshot.
. "${0%/*}/helpers"
new -o refcount_bits=1 t 1M; io -c "write -P 1 0 64k" t
st qemu-img snapshot -c s t
qemu-img snapshot -l t; io -c "read -P 1 0 64k" t; mended t
