# What is zeroed or discarded reads as zeroes.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 1M" t
io -c "write -z 64k 64k" -c "discard 128k 64k" -c "write -zu 256k 64k" \
    -c "write -z 330k 4k" t
io -c "read -P 0 64k 128k" -c "read -P 0 256k 64k" -c "read -P 0 330k 4k" \
    -c "read -P 1 0 64k" -c "read -P 1 334k 100k" t
check t
