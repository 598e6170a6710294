# Allocated zeroes and holes are the same, but not with -s.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 0 0 64k" a; new b 1M
st qemu-img compare a b; st qemu-img compare -s a b
new c 1M; io -c "write -z 0 64k" c; st qemu-img compare b c
