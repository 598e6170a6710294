# Commands from standard input, as from -c.
. "${0%/*}/helpers"
new t 1M
qemu-io t <<END
write -P 1 0 4k
aio_write -P 2 4k 4k
aio_flush
read -P 1 0 4k
read -P 2 4k 4k
nosuch
write 0
length
END
echo $?
