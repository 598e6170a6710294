# Creating replaces what the file was before.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 1M" t
qemu-img create -f qcow2 -o cluster_size=4k t 2M
io -c length -c "read -P 0 0 2M" t
qemu-img create -f raw t 64k
qemu-img info t
