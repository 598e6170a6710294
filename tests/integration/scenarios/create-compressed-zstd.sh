# Clusters compressed with zstd are read and written over.
. "${0%/*}/helpers"
new -o compression_type=zstd t 1M
for i in 0 1 2 3; do io -c "write -c -P $i $((i*64))k 64k" t; done
io -c "write -P 7 64k 1k" -c "read -P 7 64k 1k" -c "read -P 1 65k 63k" \
    -c "read -P 3 192k 64k" t
sound t
