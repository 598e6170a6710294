# A second writer is refused, a reader with -U is not.
. "${0%/*}/helpers"
new t 1M
hold t
st io -c "write 0 1k" t; st io -r -c "read 0 1k" t
st io -r -U -c length t; st qemu-img info t; st qemu-img info -U t
st qemu-img snapshot -c s t; st qemu-img check t; st qemu-img check -U t
st qemu-img resize t 2M; st qemu-img bitmap --add t b
letgo
st io -c "write -P 1 0 1k" t
