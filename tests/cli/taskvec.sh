# Task vectors: extract and apply give the model back, file and directory.
mkmodel a.st --llama 2,16,32 --dtype BF16
mkmodel b.st --llama 2,16,32 --dtype BF16 --update 1,0.02
mkmodel base/ --llama 2,16,32
mkmodel tuned/ --llama 2,16,32 --update 1,0.02
wsurg taskvec extract a.st b.st -o t.st
wsurg taskvec apply a.st t.st -o back.st --no-provenance
cmp back.st b.st && echo same file
wsurg taskvec extract base tuned
wsurg taskvec apply base taskvec.safetensors
wsurg diff applied tuned
ls applied
wsurg taskvec apply a.st t.st -o - --no-provenance -q | cmp - b.st && echo same stream
wsurg taskvec extract a.st a.st -o none.st
wsurg taskvec extract a.st b.st -o t.st --resume
