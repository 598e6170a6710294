# Versions that nobody knows are refused.
. "${0%/*}/helpers"
for v in 004 005 377; do
    new t 1M; poke t 7 "\\$v"; st qemu-img info t; st io -c "read 0 512" t
done
