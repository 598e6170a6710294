# Patterns in three places are there again after a reopen.
. "${0%/*}/helpers"
new t.qcow2 8M
for i in 1 2 3; do io -c "write -P $i ${i}M 100k" t.qcow2; done
for i in 1 2 3; do io -c "read -P $i ${i}M 100k" t.qcow2; done
st io -c "read -P 9 1M 100k" t.qcow2
check t.qcow2
