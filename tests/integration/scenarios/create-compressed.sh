# Compressed clusters are read and written over.
. "${0%/*}/helpers"
new t 1M; io -c "write -c -P 1 0 64k" -c "write -c -P 2 64k 64k" t
io -c "write -P 3 4k 4k" -c "read -P 1 0 4k" -c "read -P 3 4k 4k" \
    -c "read -P 1 8k 56k" -c "read -P 2 64k 64k" t
sound t
