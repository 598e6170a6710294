# A chain of three layers shows the newest of each place.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 192k" a
new -b a -F qcow2 b; io -c "write -P 2 64k 128k" b
new -b b -F qcow2 c; io -c "write -P 3 128k 64k" c
for i in 1 2 3; do io -c "read -P $i $(((i-1)*64))k 64k" c; done
qemu-img map --output=json c | sed 's/, "offset": [0-9]*//'
qemu-img info --backing-chain c
