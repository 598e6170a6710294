# commit -b goes past the files in between.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a
new -b a -F qcow2 b; io -c "write -P 2 64k 64k" b
new -b b -F qcow2 t; io -c "write -P 3 128k 64k" t
st qemu-img commit -b a t
io -c "read -P 1 0 64k" -c "read -P 2 64k 64k" -c "read -P 3 128k 64k" a
io -c "read -P 1 0 64k" -c "read -P 2 64k 64k" -c "read -P 3 128k 64k" t
check a
