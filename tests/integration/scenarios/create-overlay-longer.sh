# An overlay that is longer than its backing file ends in zeroes.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base
new -b base -F qcow2 top 1536k
io -c "read -P 1 0 1M" -c "read -P 0 1M 512k" top
io -c "write -P 2 1000k 100k" -c "read -P 2 1000k 100k" \
    -c "read -P 1 960k 40k" -c "read -P 0 1100k 64k" top
check top
