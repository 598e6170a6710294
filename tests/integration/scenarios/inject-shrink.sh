# An L1 table that cannot become smaller; an overlay that cannot be emptied.
. "${0%/*}/helpers"
for event in l1_shrink_write_table l1_shrink_free_l2_clusters; do
    for once in on off; do
        new -o cluster_size=512 t 4M; io -c "write -q -P 1 0 4M" t
        io --image-opts -c "truncate 64k" $(dbg t)$(fails $event $once) \
            >/dev/null
        mended t
        io -c "read -P 1 0 64k" t
        quiet qemu-img resize -q --shrink t 64k
        io -c length -c "read -P 1 0 64k" t
        mended t
    done
done
for once in on off; do
    new base 1M; io -c "write -q -P 1 0 64k" base
    new -b base -F qcow2 t; io -c "write -q -P 2 0 32k" t
    quiet qemu-img commit --image-opts \
        $(dbg t)$(fails empty_image_prepare $once)
    mended t
    mended base
    io -c "read -P 2 0 32k" -c "read -P 1 32k 32k" t
    io -c "read -P 2 0 32k" -c "read -P 1 32k 32k" base
    quiet qemu-img commit t
    io -c map t
done
