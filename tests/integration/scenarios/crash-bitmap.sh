# A killed writer leaves a bitmap marked as in use.
. "${0%/*}/helpers"
new t 1M; qemu-img bitmap --add t b
st io -c "write -P 1 0 64k" -c flush -c "sigraise 9" t
qemu-img info t | sed -n '/bitmaps/,/granularity/p'
st qemu-img bitmap --merge b t b
st qemu-img bitmap --remove t b
sound -r leaks t
