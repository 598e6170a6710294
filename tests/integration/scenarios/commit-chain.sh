# A chain of five, committed one by one from the top.
. "${0%/*}/helpers"
new l1 1M; io -c "write -P 1 0 1M" l1
for i in 2 3 4 5; do
    new -b l$((i-1)) -F qcow2 l$i; io -c "write -P $i $((i*64))k 64k" l$i
done
for i in 5 4 3 2; do st qemu-img commit l$i; rm l$i; done
io -c "read -P 1 0 128k" l1
for i in 2 3 4 5; do io -c "read -P $i $((i*64))k 64k" l1; done
check l1
