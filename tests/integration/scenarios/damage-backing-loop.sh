# A file that is its own backing file is refused.
. "${0%/*}/helpers"
new base 1M
new -b base -F qcow2 t
st qemu-img rebase -u -F qcow2 -b t t
quiet qemu-img info --backing-chain t
rm t
