# Refcounts all zero: a write would go over metadata, and is stopped.
. "${0%/*}/helpers"
new t 1M
poke t $(refblock_of t) '\000\000\000\000\000\000\000\000\000\000'
st io -c "write -P 1 0 64k" t
qemu-img info t | grep corrupt
sound -r all t; sound t
st io -c "write -P 1 0 64k" -c "read -P 1 0 64k" t
