# More snapshots than there can be, and more than there are.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t; qemu-img snapshot -c s t
poke t 60 '\377\377\377\377'
quiet qemu-img info t; quiet io -c "read 0 512" t
quiet qemu-img snapshot -l t; quiet qemu-img snapshot -c x t
rm t
