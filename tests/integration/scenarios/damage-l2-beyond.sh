# An L2 entry behind the end of the file.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
poke t $(($(l2_of t) + 2)) '\377'
io -r -c "read -P 0 0 64k" t
sound t
