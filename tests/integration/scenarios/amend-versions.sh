# Version 2 to version 3 and back.
. "${0%/*}/helpers"
new -o compat=0.10 t 1M; io -c "write -P 1 0 100k" t
st qemu-img amend -o compat=1.1 t; qemu-img info t | grep compat
io -c "write -z 64k 64k" t
st qemu-img amend -o compat=0.10 t; qemu-img info t | grep compat
io -c "read -P 1 0 64k" -c "read -P 0 64k 64k" t
sound t; rm t
