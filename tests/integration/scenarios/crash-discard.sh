# Killed after a discard: the data is there or zero, the image sound.
. "${0%/*}/helpers"
new t 4M; io -c "write -P 1 0 2M" t
st io -c "discard 1M 512k" -c flush -c "sigraise 9" t
sound -r leaks t
io -c "read -P 1 0 1M" -c "read -P 0 1M 512k" -c "read -P 1 1536k 512k" t
check t
