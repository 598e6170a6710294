# Two images that must say the same.
. "${0%/*}/helpers"
qemu-img create -q -f raw r 1M; new t 1M
io -f raw -c "write -P 1 0 64k" -c "read -P 1 0 64k" blkverify:r:t
io -f raw -c "read -P 1 0 64k" r; io -c "read -P 1 0 64k" t
io -c "write -P 2 0 512" t
quiet io -f raw -c "read 0 64k" blkverify:r:t
