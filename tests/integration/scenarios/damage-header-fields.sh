# Header fields out of range: refused by info, check and I/O alike.
. "${0%/*}/helpers"
field() {
    new t 1M; poke t "$1" "$2"
    echo "field at $1"
    quiet qemu-img info t; quiet qemu-img check t
    st io -c "read 0 512" t; st io -c "write 0 512" t
    rm t
}
field 20 '\000\000\000\001'
field 20 '\000\000\000\040'
field 36 '\377\377\377\377'
field 40 '\000\000\000\000\000\000\000\001'
field 48 '\000\000\000\000\000\000\000\001'
field 56 '\377\377\377\377'
field 96 '\000\000\000\007'
field 100 '\000\000\000\001'
