# A crash in an overlay does not touch the backing file.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base; cp base before
new -b base -F qcow2 top
quiet io -c "write -P 2 0 64k" -c flush -c "write -P 3 64k 64k" \
    -c "sigraise 9" top
sound -r leaks top
io -c "read -P 2 0 64k" -c "read -P 1 128k 64k" top
cmp base before && echo untouched
rm top
