# What was flushed survives kill -9.
. "${0%/*}/helpers"
new t 4M
st io -c "write -P 7 0 1M" -c flush -c "sigraise 9" t
sound -r leaks t; io -c "read -P 7 0 1M" t
check t
