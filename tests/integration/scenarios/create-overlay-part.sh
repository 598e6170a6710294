# A small write into an overlay copies the rest of its cluster.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base
new -b base -F qcow2 top; io -c "write -P 2 66k 1k" top
io -c "read -P 1 0 66k" -c "read -P 2 66k 1k" -c "read -P 1 67k 61k" top
io -c map top
check top
