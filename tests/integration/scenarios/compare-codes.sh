# The exit statuses of compare: 0, 1, 2 and more.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 64k" a; cp a b
st qemu-img compare a b; st qemu-img compare -s a b
io -c "write -P 2 512k 64k" b; st qemu-img compare a b; st qemu-img compare -q a b
new c 2M; io -c "write -P 1 0 64k" c
st qemu-img compare a c; st qemu-img compare -s a c
st qemu-img compare a missing
st qemu-img compare --image-opts driver=qcow2,file.filename=a \
    $(dbg b)$(fails read_aio off)
st qemu-img compare --image-opts $(dbg a)$(fails read_aio off) \
    driver=qcow2,file.filename=b
