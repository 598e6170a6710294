# Parts of a read are verified, mismatches are told.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 4k" -c "write -P 2 4k 4k" t
st io -c "read -P 1 -s 0 -l 4k 0 8k" -c "read -P 2 -s 4k -l 4k 0 8k" t
st io -c "read -P 1 0 8k" t; st io -c "read -P 3 0 512" t
quiet io -c "read -P 300 0 512" t; st io -c "read -v 4090 12" t
