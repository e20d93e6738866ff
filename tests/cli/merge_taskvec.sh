# Task vectors among the models: the bytes are those of the models they came from.
mkmodel a.st --llama 2,16,32
mkmodel b.st --llama 2,16,32 --update 1,0.02
mkmodel c.st --llama 2,16,32 --update 2,0.02
wsurg taskvec extract a.st b.st -o tb.st -q --manifest none
wsurg taskvec extract a.st c.st -o tc.st -q --manifest none
wsurg taskvec extract b.st c.st -o other.st -q --manifest none
wsurg merge b.st c.st --base a.st --method ties -o want.st -q --no-provenance
wsurg merge tb.st c.st --base a.st --method ties -o got.st -q --no-provenance
cmp want.st got.st && echo same
wsurg merge a.st tb.st tc.st --method ties -q -o - --no-provenance | cmp - want.st && echo same
wsurg merge other.st --base a.st --method ties -o x.st; echo $?
wsurg merge other.st --base a.st --method ties -o x.st --no-provenance; echo $?
wsurg merge a.st tb.st --method linear -o x.st; echo $?
wsurg merge tb.st a.st --method ties -o x.st; echo $?
ls
