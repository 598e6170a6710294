# A new backing file that is shorter: the rest is copied.
. "${0%/*}/helpers"
new a 2M; io -c "write -P 1 0 2M" a; new b 1M; io -c "write -P 1 0 1M" b
new -b a -F qcow2 t; io -c "write -P 3 64k 64k" t
st qemu-img rebase -b b -F qcow2 t
io -c "read -P 1 0 64k" -c "read -P 1 128k 1920k" t
sound t
