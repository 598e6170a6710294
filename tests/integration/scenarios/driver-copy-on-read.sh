# What is read from the backing file is written to the overlay.
. "${0%/*}/helpers"
new base 1M; io -c "write -P 1 0 256k" base
new -b base -F qcow2 t; io -C -c "read -P 1 70k 1k" t
io -c map -c "read -P 1 64k 64k" t; check t
