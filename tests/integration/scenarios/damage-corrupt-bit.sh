# What is marked as corrupt is read, and written only after a repair.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t; poke t 79 '\002'
st io -c "write 0 512" t; io -r -c "read -P 1 0 64k" t
qemu-img info t | grep corrupt
sound -r all t; st io -c "write -P 2 0 512" t; sound t
