# Copy-on-write that fails leaves what was there.
. "${0%/*}/helpers"
for event in cow_read cow_write; do
    for once in on off; do
        new base 1M; io -c "write -q -P 1 0 1M" base
        new -b base -F qcow2 t
        st io --image-opts -c "write -P 2 66k 1k" $(dbg t)$(fails $event $once)
        io -c "read -P 1 0 1M" t
        mended t
        io -c "write -P 2 66k 1k" -c "read -P 2 66k 1k" -c "read -P 1 67k 61k" t
        rm t
    done
done
