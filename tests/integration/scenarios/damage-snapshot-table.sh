# A snapshot table at an impossible place.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t; qemu-img snapshot -c s t
poke t 64 '\377\377\377\377\377\377\000\000'
st qemu-img snapshot -l t; st io -c "read 0 512" t
