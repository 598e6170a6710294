# States let an error wait for another event.
. "${0%/*}/helpers"
new t 1M
printf '[set-state]\nstate = "1"\nevent = "write_aio"\nnew_state = "2"\n'\
'[inject-error]\nstate = "2"\nevent = "write_aio"\nerrno = "28"\n' > rules
st io -c "write -P 1 0 64k" -c "write -P 2 0 64k" blkdebug:rules:t
io -c "read -P 1 0 64k" t
sound t
