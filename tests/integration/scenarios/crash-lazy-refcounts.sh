# With lazy refcounts a crash leaves the dirty bit, and repair clears it.
. "${0%/*}/helpers"
new -o lazy_refcounts=on t 4M
st io -c "write -P 5 0 64k" -c flush -c "sigraise 9" t
qemu-img info t | grep -c "dirty"; peek t 72 8
sound -r all t; peek t 72 8
io -c "read -P 5 0 64k" t
sound t
