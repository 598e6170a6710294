# Unknown incompatible features are refused, unknown compatible ones not.
. "${0%/*}/helpers"
new t 1M; poke t 72 '\200'
st qemu-img info t; st io -c "read 0 512" t
new t 1M; poke t 80 '\200'
st io -c "write -P 1 0 512" -c "read -P 1 0 512" t; peek t 80 1
new t 1M; poke t 88 '\200'
st io -c "write -P 1 0 512" -c "read -P 1 0 512" t; peek t 88 1
