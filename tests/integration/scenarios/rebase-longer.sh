# A new backing file that is longer does not show behind the old one's end.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a; new b 2M; io -c "write -P 2 0 2M" b
new -b a -F qcow2 t 2M
st qemu-img rebase -b b -F qcow2 t
io -c "read -P 1 0 1M" -c "read -P 0 1M 1M" t
sound t; rm t
