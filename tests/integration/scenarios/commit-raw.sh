# Committing into a raw file.
. "${0%/*}/helpers"
qemu-img create -q -f raw base 1M; io -f raw -c "write -P 1 0 1M" base
new -b base -F raw top; io -c "write -P 2 64k 64k" -c "write -z 128k 64k" top
st qemu-img commit -p top
io -f raw -c "read -P 1 0 64k" -c "read -P 2 64k 64k" -c "read -P 0 128k 64k" \
    base
