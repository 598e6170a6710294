# Rules from a file, and a file that is wrong.
. "${0%/*}/helpers"
new t 1M; io -c "write -P 1 0 64k" t
printf '[inject-error]\nevent = "read_aio"\nerrno = "5"\n' > rules
st io -c "read 0 64k" blkdebug:rules:t
printf '[inject-error]\nevent = "nosuch"\n' > rules
st io -c "read 0 64k" blkdebug:rules:t
st io -c "read 0 64k" blkdebug:missing:t
st io -c "read 0 64k" blkdebug::t
