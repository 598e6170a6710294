# An encrypted image opens with its passphrase only.
. "${0%/*}/helpers"
secret() { echo "--object secret,id=s,data=$1"; }
opts() { echo "--image-opts driver=qcow2,encrypt.key-secret=s,file.filename=t"; }
new $(secret right) -o \
    encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 t 1M
io $(secret right) -c "write -P 1 0 100k" $(opts)
io $(secret right) -c "read -P 1 0 100k" $(opts)
st io $(secret wrong) -c "read -P 1 0 100k" $(opts)
st io -c "read 0 512" t
sound $(secret right) $(opts)
grep -c "$(printf '\001%.0s' $(seq 64))" t
rm t
