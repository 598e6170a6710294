# A source that somebody writes to is refused without -U.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a
hold a
st qemu-img convert -O raw a r
st qemu-img convert -U -O raw a r
letgo
io -f raw -c "read -P 1 0 1M" r
