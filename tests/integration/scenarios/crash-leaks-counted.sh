# Clusters that nobody uses are leaks; -r leaks frees them.
. "${0%/*}/helpers"
new t 4M; io -c "write -P 1 0 64k" t
poke t $(($(refblock_of t) + 2*40)) '\000\001'
truncate -s $((41*65536)) t
check t
check -r leaks t
check t
