# The command truncate does what resize does.
. "${0%/*}/helpers"
new t 1M
io -c "write -P 1 0 1M" -c "truncate 2M" -c length t
io -c "read -P 0 1M 1M" -c "truncate 512k" -c "truncate 1M" t
io -c "read -P 1 0 512k" -c "read -P 0 512k 512k" t
check t
