# An overlay is committed into its backing file and empty afterwards.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base
new -b base -F qcow2 top; io -c "write -P 2 64k 64k" top
st qemu-img commit top
io -c "read -P 2 64k 64k" -c "read -P 1 0 64k" base
io -c map top; check base
