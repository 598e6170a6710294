# Killed, repaired, killed again.
. "${0%/*}/helpers"
new t 4M
for i in 1 2 3; do
    st io -c "write -q -P $i ${i}M 256k" -c flush -c "sigraise 9" t
    sound -r leaks t
done
for i in 1 2 3; do io -c "read -P $i ${i}M 256k" t; done
sound t
