# With --salvage what cannot be read becomes zeroes.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a
bad="driver=qcow2,file.driver=blkdebug,file.image.filename=a,\
file.inject-error.0.event=read_aio,file.inject-error.0.errno=5,\
file.inject-error.0.sector=$(( (0x50000 + 65536) / 512 ))"
st qemu-img convert --image-opts -O raw "$bad" plain
st qemu-img convert --salvage --image-opts -O raw "$bad" saved
io -f raw -c "read -P 1 0 64k" -c "read -P 1 128k 896k" saved
rm -f plain
