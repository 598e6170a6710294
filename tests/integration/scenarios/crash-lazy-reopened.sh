# A dirty image is repaired by whoever opens it for writing.
. "${0%/*}/helpers"
new -o lazy_refcounts=on t 4M
st io -c "write -P 5 0 64k" -c flush -c abort t
peek t 72 8; io -r -c "read -P 5 0 64k" t; peek t 72 8
io -c "write -P 6 64k 64k" t; sound t
io -c "read -P 5 0 64k" -c "read -P 6 64k 64k" t
