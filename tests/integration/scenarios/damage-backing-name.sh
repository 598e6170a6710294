# A backing file that is not there: the overlay is refused, unless unused.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 64k" base
new -b base -F qcow2 t; mv base gone
st io -c "read 0 512" t; st qemu-img convert -O raw t out
st qemu-img info t
st io --image-opts -c "read -P 0 0 512" \
    driver=qcow2,file.filename=t,backing=
st qemu-img rebase -u -F qcow2 -b gone t
io -c "read -P 1 0 64k" t
