# Images that are named by a descriptor, and names that are no disks.
. "${0%/*}/helpers"
new a 1M; io -c "write -P 5 0 64k" a
st qemu-img info /dev/stdin < a
st qemu-img info -f qcow2 /dev/fd/7 7< a
st qemu-img convert -f qcow2 -O raw /proc/self/fd/7 b 7< a
st qemu-img convert -O raw a /dev/stdout > c; cmp b c && echo same
st io -r -f qcow2 -c "read -P 5 0 64k" /dev/fd/7 7< a
st qemu-img info - ; st qemu-img info . ; st qemu-img info fd:7 7< a
mkfifo p; st qemu-img create -f raw p 1M; st qemu-img convert -O raw a p; rm p
ln -s a link; st qemu-img resize link 2M; qemu-img info a | grep virtual
new "com,ma" 1M; new -o "backing_file=com,,ma,backing_fmt=qcow2" over
qemu-img info over | grep "^backing"
new "$PWD/sp ace" 1M; st qemu-img convert -O qcow2 "sp ace" ./co:lon
st qemu-img check ./co:lon; st qemu-img check co:lon
