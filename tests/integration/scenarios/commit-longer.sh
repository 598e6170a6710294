# Committing a longer overlay makes the backing file longer.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base
new -b base -F qcow2 top 2M; io -c "write -P 2 1536k 64k" top
st qemu-img commit top
io -c length -c "read -P 1 0 1M" -c "read -P 0 1M 512k" \
    -c "read -P 2 1536k 64k" base
check base
