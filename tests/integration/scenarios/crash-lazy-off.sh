# Without lazy refcounts the dirty bit is never set.
. "${0%/*}/helpers"
new t 4M
st io -c "write -P 5 0 64k" -c "sigraise 9" t
peek t 72 8; sound -r leaks t >/dev/null; sound t
rm t
