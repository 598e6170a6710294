# Grown with preallocation.
. "${0%/*}/helpers"
for mode in off metadata falloc full; do
    new t$mode 1M; io -c "write -P 1 0 1M" t$mode
    st qemu-img resize --preallocation=$mode t$mode 2M
    io -c "read -P 1 0 1M" -c "read -P 0 1M 1M" t$mode
    sound t$mode
    rm t$mode
done
