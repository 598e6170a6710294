# Nothing to commit into, or not the right thing.
. "${0%/*}/helpers"
new base 1M
st qemu-img commit base
new -b base -F qcow2 top
st qemu-img commit -b nosuch top; st qemu-img commit -f raw base
