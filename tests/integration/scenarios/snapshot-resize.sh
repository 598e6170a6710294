# A snapshot of another size brings its size back.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 1M" t; qemu-img snapshot -c small t
qemu-img resize -q t 2M; io -c "write -P 2 1M 1M" t
qemu-img snapshot -c large t
qemu-img snapshot -a small t; io -c length -c "read -P 1 0 1M" t
qemu-img snapshot -a large t; io -c length -c "read -P 2 1M 1M" t
sound t
