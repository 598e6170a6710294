# Small metadata caches change nothing that is read.
. "${0%/*}/helpers"
new -o cluster_size=512 t 4M; io -c "write -P 1 0 2M" t
io --image-opts -c "read -P 1 0 2M" -c "write -P 2 1M 1M" \
    driver=qcow2,file.filename=t,l2-cache-size=1024,refcount-cache-size=2048
io -c "read -P 1 0 1M" -c "read -P 2 1M 1M" t
sound t
