# Refcounts of every width count the same.
. "${0%/*}/helpers"
for bits in 1 2 4 8 16 32 64; do
    new -o refcount_bits=$bits t$bits 2M
    io -c "write -P $bits 0 300k" -c "read -P $bits 0 300k" t$bits
    qemu-img info t$bits | grep refcount
    sound t$bits
done
