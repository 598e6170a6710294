# What both backing files have alike is not copied.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a; cp a b; io -c "write -P 2 0 64k" b
new -b a -F qcow2 t
st qemu-img rebase -b b -F qcow2 t
io -c map -c "read -P 1 0 1M" t
sound t
