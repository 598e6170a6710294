# Passphrases of an encrypted image come and go, and what it holds stays.
. "${0%/*}/helpers"
s="--object secret,id=a,data=one --object secret,id=b,data=two"
s="$s --object secret,id=c,data=three"
fast=encrypt.iter-time=10
with() { echo "--image-opts driver=qcow2,encrypt.key-secret=$1,file.filename=t"; }
amend() { st qemu-img amend $s "$@"; }
who() {
    for key in a b c; do
        io $s -c "read -P 1 0 100k" $(with $key) >/dev/null 2>&1 &&
            echo "$key opens it"
    done
    qemu-img info t | grep -c "active: true"
}
new $s -o encrypt.format=luks,encrypt.key-secret=a,$fast t 1M
io $s -c "write -P 1 0 100k" $(with a)
set_b=encrypt.state=active,encrypt.new-secret=b,$fast
set_c=encrypt.state=active,encrypt.new-secret=c,$fast
amend -o $set_b $(with a); who
amend -o $set_c,encrypt.keyslot=6 $(with b); who
amend -o $set_c,encrypt.keyslot=1 $(with a)
amend --force -o $set_c,encrypt.keyslot=1 $(with a); who
amend -o encrypt.state=inactive,encrypt.old-secret=b $(with a)
amend -o encrypt.state=inactive,encrypt.old-secret=c $(with a); who
amend -o encrypt.state=inactive,encrypt.keyslot=0 $(with a)
amend --force -o $set_b,encrypt.keyslot=0 $(with a); who
sound $s $(with b)
amend --force -o encrypt.state=inactive,encrypt.keyslot=0 $(with b); who
rm t
