# The command dd with block sizes and counts.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 512k" -c "write -P 2 512k 512k" a
st qemu-img dd if=a of=r; alike a r
st qemu-img dd -f qcow2 -O qcow2 bs=64k count=4 if=a of=q; io -c length q
io -c "read -P 1 0 256k" q
st qemu-img dd -O raw bs=256k skip=2 if=a of=s
io -f raw -c "read -P 2 0 512k" s
st qemu-img dd bs=64k if=missing of=x; st qemu-img dd bs=0 if=a of=x
