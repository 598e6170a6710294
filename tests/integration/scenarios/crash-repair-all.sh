# check -r all after a crash leaves nothing to find.
. "${0%/*}/helpers"
for lazy in on off; do
    new -o lazy_refcounts=$lazy t$lazy 4M
    st io -c "write -q -P 3 0 1M" -c "write -q -P 4 2M 64k" -c flush \
        -c "discard -q 0 512k" -c "sigraise 9" t$lazy
    sound -r all t$lazy; sound t$lazy
    io -c "read -P 3 512k 512k" -c "read -P 4 2M 64k" t$lazy
    rm t$lazy
done
