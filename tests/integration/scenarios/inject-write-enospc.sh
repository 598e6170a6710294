# No space left: the error is told, the image stays sound.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
st io --image-opts -c "write -P 2 64k 64k" -c "write -P 3 0 64k" \
    $(dbg t)$(fails write_aio off),file.inject-error.0.errno=28
sound -r leaks t; sound t
io -c "read -P 1 0 64k" t
