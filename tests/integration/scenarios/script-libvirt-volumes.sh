# Volumes as a manager of virtual machines makes, encrypts and moves them.
. "${0%/*}/helpers"
st qemu-img create -f qcow2 -o preallocation=falloc,compat=1.1,lazy_refcounts,nocow=on vol.qcow2 4096K
st qemu-img create -f qcow2 -b vol.qcow2 -o backing_fmt=qcow2,compat=0.10 top.qcow2 8192K
st qemu-img convert -f qcow2 -O raw -o preallocation=falloc vol.qcow2 vol.raw
st qemu-img convert -f qcow2 -O qcow2 -o backing_file=vol.qcow2,backing_fmt=qcow2 top.qcow2 copy.qcow2
qemu-img info copy.qcow2 | grep -v "disk size"
st qemu-img amend -o compat=1.1 top.qcow2
printf hunter2 > key
enc=encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10
st qemu-img create -f qcow2 --object secret,id=k,file=key -o $enc enc.qcow2 4M
st qemu-img convert --image-opts -n --target-image-opts --object secret,file=key,id=k driver=raw,file.filename=vol.raw driver=qcow2,file.filename=enc.qcow2,encrypt.key-secret=k
st qemu-img compare --object secret,file=key,id=k --image-opts driver=qcow2,file.filename=enc.qcow2,encrypt.key-secret=k driver=raw,file.filename=vol.raw
st qemu-img rebase -f qcow2 -u -b ./vol.qcow2 -F qcow2 copy.qcow2
st qemu-img info --backing-chain -U copy.qcow2 | grep -E "^(image|backing file):"
