# Arguments that are wrong: said on one line, nothing written.
. "${0%/*}/helpers"
new t 1M
for c in "write 0" "write abc 1k" "write 0 1k 1k" "read -l 512 0 1k" \
    "write -z -P 1 0 64k" "write -c 1 64k" \
    "read 2M 1k" "write 1023k 2k" "truncate -1" "discard 0" nosuch "length 1"; do
    quiet io -c "$c" t
done
io -c "read -P 0 0 1M" t; sound t
