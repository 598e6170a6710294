# With -s what is written is forgotten.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
io -s -c "write -P 2 0 64k" -c "read -P 2 0 64k" t
io -c "read -P 1 0 64k" t; check t
