# A raw data file holds what the disk shows, at the same place.
. "${0%/*}/helpers"
new -o data_file=t.raw,data_file_raw=on t 1M
io -c "write -P 1 64k 128k" -c "write -z 128k 4k" t
io -f raw -c "read -P 1 64k 64k" -c "read -P 0 128k 4k" \
    -c "read -P 1 132k 60k" t.raw
alike t t.raw
check t
