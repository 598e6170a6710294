# Options that nobody knows, values that cannot be.
. "${0%/*}/helpers"
new t 1M
for o in nosuch=1 file.nosuch=1 lazy-refcounts=maybe l2-cache-size=abc \
    overlap-check=some; do
    st io --image-opts -c "read 0 512" driver=qcow2,file.filename=t,$o
done
