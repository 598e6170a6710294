# The backing file of an open overlay can be read and not written.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base; new -b base -F qcow2 t
hold t
st io -r -c "read -P 1 0 64k" base; st io -c "write 0 1k" base
new -b base -F qcow2 u; st io -c "write -P 2 0 1k" u
letgo
hold base
new -b base -F qcow2 v; st qemu-img info v
letgo
st io -c "write -P 1 0 1k" base
