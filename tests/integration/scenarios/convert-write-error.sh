# A target that cannot be written: the error is told.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a; new t 1M
st qemu-img convert -n --target-image-opts a \
    driver=qcow2,file.driver=blkdebug,file.image.filename=t,\
file.inject-error.0.event=write_aio,file.inject-error.0.errno=28
sound -r leaks t >/dev/null; sound t
rm t
