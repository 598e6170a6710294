# A snapshot stays what it was when a later writer is killed.
. "${0%/*}/helpers"
new t 4M; io -c "write -P 1 0 1M" t; qemu-img snapshot -c s t
st io -c "write -P 2 0 512k" -c flush -c "sigraise 9" t
sound -r leaks t
io -c "read -P 2 0 512k" -c "read -P 1 512k 512k" t
qemu-img snapshot -a s t; io -c "read -P 1 0 1M" t
sound t
