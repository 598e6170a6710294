# Images named by json: and by nested options.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 1M" base
new -b base -F qcow2 t; io -c "write -P 2 0 64k" t
io -c "read -P 2 0 64k" 'json:{"driver":"qcow2","file":{"driver":"file","filename":"t"}}'
io -c "read -P 2 0 64k" 'json:{"driver":"qcow2","file.filename":"t"}'
io --image-opts -c "read -P 0 64k 64k" driver=qcow2,file.filename=t,backing=
qemu-img info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"t"}}'
st qemu-img info 'json:{"driver":"nosuch","filename":"t"}'
st qemu-img info 'json:{broken'
