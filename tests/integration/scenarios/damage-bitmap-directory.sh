# A bitmap directory that cannot be: the image is refused.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t; qemu-img bitmap --add t b
at=104
while [ $(peek t $at 4) != $((0x23852875)) ]; do
    at=$((at + 8 + ($(peek t $((at+4)) 4) + 7) / 8 * 8))
done
poke t $((at + 24)) '\377\377\377\377'
quiet qemu-img info t; quiet io -c "read 0 512" t; quiet qemu-img map t
quiet qemu-img bitmap --add t c; quiet qemu-img bitmap --remove t b
rm t
