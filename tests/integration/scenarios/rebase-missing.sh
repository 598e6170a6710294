# The old backing file is gone: only -u helps.
. "${0%/*}/helpers"
new a 1M; new b 1M; io -c "write -P 2 0 1M" b
new -b a -F qcow2 t; rm a
st qemu-img rebase -b b -F qcow2 t
st qemu-img rebase -b missing -F qcow2 t
st qemu-img rebase -u -b b -F qcow2 t; io -c "read -P 2 0 1M" t
