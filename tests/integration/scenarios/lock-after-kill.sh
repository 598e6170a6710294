# A killed writer leaves no lock.
. "${0%/*}/helpers"
new t 1M
st io -c "write -P 1 0 64k" -c "sigraise 9" t
st io -c "read -P 1 0 64k" -c "write -P 2 64k 64k" t
sound -r leaks t
