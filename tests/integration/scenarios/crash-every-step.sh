# Killed after the first, second, ... write: all flushed ones are there.
. "${0%/*}/helpers"
for n in 1 2 3 4 5 6; do
    new t$n 4M
    args=()
    for i in $(seq $n); do
        args+=(-c "write -q -P $i $((i*200))k 100k" -c flush)
    done
    st io "${args[@]}" -c "write -q -P 99 3M 64k" -c "sigraise 9" t$n
    sound -r leaks t$n
    for i in $(seq $n); do io -c "read -P $i $((i*200))k 100k" t$n; done
    rm t$n
done
