# Refcounts that are too low are errors; -r all counts anew.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 128k" t
poke t $(($(refblock_of t) + 2*5)) '\000\000'
sound t; sound -r all t; sound t
io -c "write -P 2 512k 128k" -c "read -P 1 0 128k" t; sound t
