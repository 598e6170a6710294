# Granularities, and those that cannot be.
. "${0%/*}/helpers"
new t 1M
for g in 512 4k 64k 1M 2M; do st qemu-img bitmap --add -g $g t g$g; done
for g in 100 3k 256 1G; do st qemu-img bitmap --add -g $g t h$g; done
qemu-img info t | sed -n '/bitmaps/,$p'
sound t
