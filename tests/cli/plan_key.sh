# The key follows contents, not names; a value of a parameter changes it.
mkmodel a.st --llama 1,8,16
mkmodel b.st --llama 1,8,16 --update 1,0.02
mkmodel c.st --llama 1,8,16 --update 2,0.02
key() { wsurg plan "$@" --key -qq | sed -n 's/^key *//p'; }
raw() { wsurg plan "$@" --key -qq --json | sed 's/.*"key":"\([^"]*\)".*/\1/'; }
one=$(raw a.st b.st --method slerp)
[ "$one" = "$(raw a.st b.st --method slerp)" ] && echo equal
[ "$one" != "$(raw a.st c.st --method slerp)" ] && echo other
[ "$one" != "$(raw a.st b.st --method slerp --set t=0.25)" ] && echo other
key a.st b.st --method slerp
wsurg plan a.st b.st --method slerp --trust-manifests; echo $?
