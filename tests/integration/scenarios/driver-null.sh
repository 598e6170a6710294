# A disk that is nothing: it takes everything and gives zeroes.
. "${0%/*}/helpers"
io -f raw -c length -c "read 0 64k" -c "write -P 1 0 64k" null-co://
io --image-opts -c length -c "read -P 0 0 64k" \
    driver=null-co,size=1M,read-zeroes=on
