# A disk of 1 TiB with data at both ends takes little space.
. "${0%/*}/helpers"
new t 1T
io -c "write -P 1 0 64k" -c "write -P 2 1099511562240 64k" t
io -c "read -P 1 0 64k" -c "read -P 2 1099511562240 64k" \
    -c "read -P 0 512G 1M" t
[ $(stat -c %s t) -lt 2000000 ] && echo small
check t
