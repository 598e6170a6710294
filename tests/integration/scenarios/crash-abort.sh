# abort leaves what kill -9 leaves.
. "${0%/*}/helpers"
new t 4M
st io -c "write -P 5 0 64k" -c flush -c abort t
sound -r leaks t; io -c "read -P 5 0 64k" t
sound t
