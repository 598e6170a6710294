# A repair that fails is told, and can be done again.
. "${0%/*}/helpers"
new t 1M; io -c "write -q -P 1 0 64k" t
poke t $(($(refblock_of t) + 2*9)) '\000\001'; truncate -s $((10*65536)) t
sound t
qemu-img check -r leaks --image-opts $(dbg t)$(fails refblock_load off) \
    >/dev/null
sound -r leaks t; sound t
io -c "read -P 1 0 64k" t
