# Another backing file for one time.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 1 0 1M" a; new b 1M; io -c "write -P 2 0 1M" b
new -b a -F qcow2 t
io --image-opts -c "read -P 2 0 1M" \
    driver=qcow2,file.filename=t,backing.driver=qcow2,backing.file.filename=b
io -c "read -P 1 0 1M" t
st io --image-opts -c "read 0 512" driver=qcow2,file.filename=t,backing=nosuch
