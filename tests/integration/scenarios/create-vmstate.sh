# Vmstate lies behind the disk and is not part of it.
. "${0%/*}/helpers"
new t 1M; io -c "write -b -P 9 0 64k" -c "read -b -P 9 0 64k" t
io -c length -c "read -P 0 0 1M" t
check t
