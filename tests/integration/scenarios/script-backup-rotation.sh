# Nights of backups: snapshots, bitmaps, copies of each day, increments.
. "${0%/*}/helpers"
new vm.qcow2 16M; io -c "write -P 1 0 4M" vm.qcow2
for day in 1 2 3; do
    io -c "write -P $((day + 1)) ${day}M 512k" vm.qcow2
    st qemu-img snapshot -c day$day vm.qcow2
done
qemu-img snapshot -l vm.qcow2 | awk 'NR > 2 {print $1, $2}'
for day in 1 2 3; do
    st qemu-img convert -q -l snapshot.name=day$day -c -O qcow2 vm.qcow2 day$day.qcow2
    sound day$day.qcow2
done
st qemu-img snapshot -a day1 vm.qcow2; alike vm.qcow2 day1.qcow2
st qemu-img snapshot -d day1 vm.qcow2; st qemu-img snapshot -d nope vm.qcow2
st qemu-img bitmap --add vm.qcow2 since
st qemu-img bitmap --add --disable -g 128k vm.qcow2 spare
st qemu-img convert --bitmaps -O qcow2 vm.qcow2 copy.qcow2
st qemu-img bitmap --merge since -b vm.qcow2 -F qcow2 copy.qcow2 spare
ln -s vm.qcow2 current
new -b current -F qcow2 inc.qcow2; io -c "write -P 99 8M 1M" inc.qcow2
st qemu-img commit -d inc.qcow2
st qemu-img rebase -u -b vm.qcow2 -F qcow2 inc.qcow2
st qemu-img convert -B vm.qcow2 -F qcow2 -O qcow2 inc.qcow2 thin.qcow2
alike inc.qcow2 thin.qcow2
