# A snapshot whose L1 table cannot be: it is not applied.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t; qemu-img snapshot -c s t
poke t $(($(peek t 64 8) + 6)) '\001\001'
quiet qemu-img snapshot -a s t
quiet qemu-img snapshot -d s t
io -c "read -P 1 0 64k" t
