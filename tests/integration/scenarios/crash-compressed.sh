# Killed after compressed writes that were flushed.
. "${0%/*}/helpers"
new t 4M
st io -c "write -c -P 1 0 64k" -c "write -c -P 2 64k 64k" -c flush \
    -c "sigraise 9" t
sound -r leaks t; io -c "read -P 1 0 64k" -c "read -P 2 64k 64k" t
sound t
