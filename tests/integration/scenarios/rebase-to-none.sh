# Rebased to nothing, the overlay holds everything itself.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 256k" a
new -b a -F qcow2 b; io -c "write -P 2 64k 64k" b
new -b b -F qcow2 t; io -c "write -P 3 512k 64k" t
st qemu-img rebase -b "" t; rm a b
io -c "read -P 1 0 64k" -c "read -P 2 64k 64k" -c "read -P 1 128k 128k" \
    -c "read -P 3 512k 64k" -c "read -P 0 576k 448k" t
sound t
