# Any number of readers, and no writer beside them.
. "${0%/*}/helpers"
new t 1M
hold -r t
st io -r -c length t; st qemu-img info t; st qemu-img check t
st io -c "write 0 1k" t; st qemu-img amend -o lazy_refcounts=on t
letgo
