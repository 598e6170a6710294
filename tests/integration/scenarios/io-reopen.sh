# Reopened read-only and back.
. "${0%/*}/helpers"
new t 1M
st io -c "write -P 1 0 64k" -c "reopen -r" -c "write 0 64k" \
    -c "read -P 1 0 64k" -c "reopen -w" -c "write -P 2 0 64k" t
io -c "read -P 2 0 64k" t; sound t
