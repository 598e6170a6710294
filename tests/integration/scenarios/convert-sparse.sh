# The options -S and what they leave as holes.
. "${0%/*}/helpers"
qemu-img create -q -f raw r 4M
io -f raw -c "write -P 1 0 4k" -c "write -P 0 64k 1M" -c "write -P 2 2M 64k" r
for s in 0 4k 64k 1M; do
    st qemu-img convert -S $s -O qcow2 r q$s; alike r q$s
    io -c map q$s
done
