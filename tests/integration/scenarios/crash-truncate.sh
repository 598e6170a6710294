# Killed after growing: the new size counts.
. "${0%/*}/helpers"
new t 1M
st io -c "write -P 1 0 1M" -c "truncate 3M" -c flush -c "sigraise 9" t
sound -r leaks t; io -c length -c "read -P 1 0 1M" -c "read -P 0 1M 2M" t
check t
