# A rule for one sector fails what covers it.
. "${0%/*}/helpers"
qemu-img create -q -f raw t 1M
st io --image-opts -c "read 0 64k" -c "read 64k 64k" -c "read 128k 64k" \
    driver=raw,file.driver=blkdebug,file.image.filename=t,\
file.inject-error.0.event=read_aio,file.inject-error.0.sector=130
