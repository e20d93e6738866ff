# Spellings of other tools are answered with ours, ready to paste.
mkmodel a.st x:F32:4:1
mkmodel 'b c.st' x:F32:4:2
wsurg merge a.st 'b c.st' --merge-method ties --density 0.3 --cuda --random-seed 1 \
    --base-model=a.st
