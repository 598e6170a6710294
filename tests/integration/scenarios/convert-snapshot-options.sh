# The option -l by name, by id, and wrong.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 64k" a; qemu-img snapshot -c one a
io -c "write -P 2 0 64k" a
for l in one 1 snapshot.name=one snapshot.id=1 snapshot.id=1,snapshot.name=one; do
    st qemu-img convert -l $l -O raw a out; io -f raw -c "read -P 1 0 64k" out
done
st qemu-img convert -l snapshot.id=9 -O raw a out
