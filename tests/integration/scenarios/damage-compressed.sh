# Compressed data that was overwritten cannot be read.
. "${0%/*}/helpers"
new t 1M; io -c "write -c -P 1 0 64k" -c "write -P 2 64k 64k" t
host=$(($(peek t $(($(l2_of t) + 1)) 7) & 0x3fffffffffff))
poke t $host '\377\377\377\377\377\377\377\377'
st io -c "read -P 1 0 64k" -c "read -P 2 64k 64k" t
st io -c "write -P 3 0 64k" -c "read -P 3 0 64k" t
sound t
