# Discards that are passed on, and ignored ones.
. "${0%/*}/helpers"
for mode in unmap ignore; do
    new t 1M; io -c "write -q -P 1 0 256k" t
    io -d $mode -c "discard 0 64k" t
    io -c "alloc 0 64k" t; sound t
done
