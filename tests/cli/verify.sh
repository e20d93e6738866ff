mkmodel a.st --llama 1,8,16
mkmodel b.st --llama 1,8,16 --update 1,0.02
wsurg merge a.st b.st --method linear -q -o out.st
wsurg verify out.st; echo $?
printf x | dd of=out.st bs=1 seek=2000 conv=notrunc 2>/dev/null
wsurg verify out.st; echo $?
wsurg verify a.st; echo $?
