# A refcount table entry that is not aligned: nothing is allocated any more.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
poke t $(($(reftable_of t) + 6)) '\002'
st io -c "read -P 1 0 64k" t; st io -c "write -P 2 64k 64k" t
qemu-img info t | grep corrupt
st io -c "write -P 2 0 64k" t; st io -r -c "read -P 1 0 64k" t
rm t
