# Into an encrypted image and out of it.
. "${0%/*}/helpers"
s="--object secret,id=s,data=abc"
new a 1M; io -c "write -P 1 0 100k" a
st qemu-img convert $s -O qcow2 -o \
    encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 a t
e=driver=qcow2,encrypt.key-secret=s,file.filename=t
io $s --image-opts -c "read -P 1 0 100k" $e
st qemu-img convert $s --image-opts -O raw $e r
alike a r
sound $s --image-opts $e
rm t
