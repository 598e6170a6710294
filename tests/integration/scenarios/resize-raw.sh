# Raw files grow and shrink.
. "${0%/*}/helpers"
qemu-img create -q -f raw t 1M; io -f raw -c "write -P 1 0 1M" t
st qemu-img resize -f raw t 2M; stat -c %s t
st qemu-img resize -f raw t 64k; st qemu-img resize -f raw --shrink t 64k
stat -c %s t; io -f raw -c "read -P 1 0 64k" t
