# With extended L2 entries a write allocates subclusters.
. "${0%/*}/helpers"
new -o extended_l2=on,cluster_size=64k t 4M
io -c "write -P 1 2k 2k" -c "write -P 2 64k 64k" -c "write -z 64k 6k" \
    -c "write -P 2 130k 1k" t
io -c "read -P 0 0 2k" -c "read -P 1 2k 2k" -c "read -P 0 4k 66k" \
    -c "read -P 2 70k 58k" -c "read -P 2 130k 1k" -c "read -P 0 131k 100k" t
check t
