# Killed with an external data file.
. "${0%/*}/helpers"
new -o data_file=t.raw t 1M
st io -c "write -P 1 0 128k" -c flush -c "sigraise 9" t
sound -r leaks t; io -c "read -P 1 0 128k" t
check t
