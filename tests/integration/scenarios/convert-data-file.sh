# The new image keeps its data in another file.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 100k" -c "write -P 2 512k 64k" a
st qemu-img convert -O qcow2 -o data_file=d,data_file_raw=on a t
alike a t; alike a d; sound t
st qemu-img convert -O qcow2 t back; alike a back; sound back
