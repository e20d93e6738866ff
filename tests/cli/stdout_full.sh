# A reader that has seen enough is no news; a full disk is.
wsurg methods ties | true
[ -w /dev/full ] && wsurg methods >/dev/full; echo $?
