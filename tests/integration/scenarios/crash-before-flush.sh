# kill -9 before the flush leaves a sound image, with leaks at worst.
. "${0%/*}/helpers"
new t 4M; io -c "write -P 1 0 1M" t
quiet io -c "write -P 7 512k 1M" -c "sigraise 9" t
sound -r leaks t; sound t
io -c "read -P 1 0 512k" t
rm t
