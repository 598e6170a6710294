# Refcounts that are too high are leaks; -r leaks lowers them.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 128k" t
poke t $(($(refblock_of t) + 2*5)) '\000\003'
check t; st qemu-img check -q t; check -r leaks t; check t
io -c "read -P 1 0 128k" t
