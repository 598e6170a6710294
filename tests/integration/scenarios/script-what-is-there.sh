# What scripts ask a tool before they use it, and how they read its answers.
. "${0%/*}/helpers"
qemu-img --version | grep -c version
qemu-img --help | grep -c "^Supported formats:.* qcow2 .*raw"
for name in create info convert measure amend bitmap dd; do
    qemu-img --help | grep -qw "$name" && echo "$name is there"
done
qemu-img create -f qcow2 -o help | grep -c "^  preallocation=<str>"
st qemu-img convert -O qcow2 -o "?" x y | grep -c "cluster_size="
new a 3M
qemu-img info --output=json a | sed -n 's/.*"virtual-size": \([0-9]*\),.*/\1/p'
qemu-img info a | sed -n 's/^virtual size: .*(\([0-9]*\) bytes)/\1/p'
qemu-img info a | awk -F": " '/^file format/ {print $2}'
qemu-img measure -O qcow2 --output=json --size 1G | sed -n 's/.*required": \([0-9]*\).*/\1/p'
qemu-img map --output=json a | grep -c '"data": true'
qemu-img check --output=json a | grep -c '"leaks"'
case $(qemu-img check -q a; echo $?) in 0) echo clean ;; *) echo not ;; esac
