# Version 2 has no bitmaps, raw neither.
. "${0%/*}/helpers"
new -o compat=0.10 t 1M; st qemu-img bitmap --add t b
qemu-img create -q -f raw r 1M; st qemu-img bitmap --add -f raw r b
st qemu-img bitmap --remove t b; sound t
