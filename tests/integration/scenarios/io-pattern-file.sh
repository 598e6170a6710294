# The data of a write comes from a file.
. "${0%/*}/helpers"
new t 1M; printf 'abc' > p
io -c "write -s p 0 9" -c "read -v 0 12" t
quiet io -c "write -s missing 0 9" t; : > p; quiet io -c "write -s p 0 9" t
rm p
