# Reopened with other options and cache modes.
. "${0%/*}/helpers"
new t 1M
st io -c "write -P 1 0 64k" -c "reopen -o lazy-refcounts=on" \
    -c "write -P 2 64k 64k" -c "reopen -c none" -c "read -P 2 64k 64k" \
    -c "reopen -c writeback" -c "reopen -o nosuch=1" -c "read -P 1 0 64k" t
sound t
