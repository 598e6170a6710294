# The request at the bottom fails, whatever it is for.
. "${0%/*}/helpers"
for event in pwritev pwritev_done; do
    new t 1M; io -c "write -q -P 1 0 64k" t
    io --image-opts -c "write -q -P 2 0 64k" $(dbg t)$(fails $event) >/dev/null
    mended t
    io -c "write -P 3 0 64k" -c "read -P 3 0 64k" t
done
