# --resume of what is there already is no error.
mkmodel a.st --llama 1,8,16
mkmodel b.st --llama 1,8,16 --update 1,0.02
wsurg merge a.st b.st --method linear -q
wsurg merge a.st b.st --method linear --resume
wsurg merge a.st b.st --method linear --resume --json 2>/dev/null |
    sed 's/.*"status":"\([a-z]*\)","exit":\([0-9]*\).*/\1 \2/'
