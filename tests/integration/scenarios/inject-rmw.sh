# Each step of writing a part of a sector fails: read, change, write.
. "${0%/*}/helpers"
# RULE COMMAND...: without FUA, so that no flush fails in place of the step.
try() {
    local rule=$1
    shift
    qemu-img create -q -f raw t 64k; io -f raw -c "write -q -P 1 0 64k" t
    st io -t writeback --image-opts -c "$*" "$(
        )driver=raw,file.driver=blkdebug,file.align=4096,$(
        )file.image.filename=t$rule"
}
for event in pwritev_rmw_head pwritev_rmw_after_head pwritev_rmw_tail \
    pwritev_rmw_after_tail; do
    for range in "100 200" "100 8092" "4096 4196" "100 8000"; do
        for once in on off; do
            # QEMU goes on with garbage if only the read fails.
            case $event,$once in *rmw_head,on | *rmw_tail,on) continue ;; esac
            try $(fails $event $once) write -P 2 $range
            io -f raw -c "read -v 0 512" -c "read -v 8k 512" \
                -c "read -P 1 16k 48k" t
        done
    done
done
# Zeroes at the bottom.
for once in on off; do
    try $(fails pwritev_zero $once) write -z 4k 8k
    io -f raw -c "read -P 1 0 4k" -c "read -P 1 12k 52k" t
done
