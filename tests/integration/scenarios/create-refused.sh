# Impossible images are refused and leave no file.
. "${0%/*}/helpers"
st qemu-img create -f qcow2 -o cluster_size=5000 t 1M
st qemu-img create -f qcow2 -b missing -F raw t
st qemu-img create -f qcow2 -o extended_l2=on,cluster_size=4k t 1M
st qemu-img create -f qcow2 -o compat=0.10,lazy_refcounts=on t 1M
st qemu-img create -f qcow2 -o refcount_bits=7 t 1M
ls
