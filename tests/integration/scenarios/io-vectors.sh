# Vectors, from buffers of different sizes.
. "${0%/*}/helpers"
new t 1M
io -c "writev -P 1 0 1k 3k 60k" -c "readv -P 1 0 32k 32k" \
    -c "aio_write -P 2 64k 512 512 1k" -c aio_flush -c "read -P 2 64k 2k" \
    -c "readv -v 65500 16 40" t
