# A service that takes images of others: probe, refuse, flatten, grow, publish.
. "${0%/*}/helpers"
fact() { qemu-img info -U --output=json "$1" | sed -n "s/^ \{4\}\"$2\": \"\{0,1\}\([^\",]*\).*/\1/p"; }
new base.qcow2 8M; io -c "write -P 17 1M 2M" base.qcow2
new -u -b /srv/secret/disk -F raw evil.qcow2 1M
new -o data_file=d.raw outside.qcow2 1M
for i in base evil outside; do
    echo "$(fact $i.qcow2 format) $(fact $i.qcow2 virtual-size) '$(fact $i.qcow2 backing-filename)'"
    qemu-img info $i.qcow2 | grep -c "data file:"
done
st qemu-img convert -t none -O qcow2 -f qcow2 base.qcow2 base.part
st qemu-img create -q -f qcow2 -o backing_file=base.part,backing_fmt=qcow2,size=16777216 disk
st qemu-img resize disk 32M
st qemu-img rebase -b "" disk
st qemu-img rebase -F qcow2 -b base.part disk
st qemu-img convert -p -t none -T none -f qcow2 -O raw disk disk.raw
stat -c %s disk.raw
st qemu-img convert -c -O qcow2 -o compat=1.1,lazy_refcounts=on disk small.qcow2
alike disk small.qcow2
qemu-img info small.qcow2 | awk -F": " '/^(file format|virtual size)/ {print $2}'
