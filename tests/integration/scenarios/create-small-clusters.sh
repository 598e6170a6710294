# Clusters of 512 bytes need many tables.
. "${0%/*}/helpers"
new -o cluster_size=512 t 2M
for i in $(seq 1 9); do io -c "write -P $i $((i*200))k 100k" t; done
for i in $(seq 1 9); do io -c "read -P $i $((i*200))k 100k" t; done
sound t
