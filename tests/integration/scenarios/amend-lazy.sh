# Lazy refcounts on and off.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
st qemu-img amend -o lazy_refcounts=on t; qemu-img info t | grep lazy
st io -c "write -P 2 64k 64k" -c flush -c "sigraise 9" t; peek t 72 8
st qemu-img amend -o lazy_refcounts=off t; peek t 72 8
qemu-img info t | grep lazy; io -c "read -P 2 64k 64k" t
sound t
