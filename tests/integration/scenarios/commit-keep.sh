# commit -d leaves the overlay as it was.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base
new -b base -F qcow2 top; io -c "write -P 2 64k 64k" top
st qemu-img commit -d top; io -c map top
io -c "read -P 2 64k 64k" base
