# A disk whose size is no multiple of the cluster.
. "${0%/*}/helpers"
new t 1000000
io -c length -c "write -P 1 999424 576" -c "read -P 1 999424 576" t
st io -c "write 999424 1024" t
check t
