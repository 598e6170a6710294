# What cannot be amended.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
st qemu-img amend -o cluster_size=4k t; st qemu-img amend -o preallocation=full t
st qemu-img amend -o nosuch=1 t; st qemu-img amend t
st qemu-img amend -f raw -o size=2M t
io -c "read -P 1 0 64k" t; sound t
