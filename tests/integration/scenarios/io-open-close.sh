# Images are opened and closed by commands.
. "${0%/*}/helpers"
new a 1M; new b 1M
io -c "open a" -c "write -P 1 0 64k" -c close -c "open -r a" \
    -c "read -P 1 0 64k" -c "write 0 64k" -c close -c "open -s b" \
    -c "write -P 2 0 64k" -c "read -P 2 0 64k" -c close -c "open b" \
    -c "read -P 0 0 64k"
st io -c "read 0 64k"
