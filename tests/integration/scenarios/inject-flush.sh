# A flush that fails is told.
. "${0%/*}/helpers"
for event in flush_to_disk flush_to_os; do
    new t 1M
    st io --image-opts -c "write -q -P 1 0 64k" -c flush -c flush \
        $(dbg t)$(fails $event)
    mended t
    io -c "write -P 3 0 64k" -c "read -P 3 0 64k" t
done
