# An output that is there is not touched; --force replaces it; inputs are safe.
mkmodel a.st --llama 1,8,16
mkmodel b.st --llama 1,8,16 --update 1,0.02
echo mine >merged.safetensors
wsurg merge a.st b.st --method linear -q; echo $?
cat merged.safetensors
wsurg merge a.st b.st --method linear -q --force; echo $?
wsurg verify merged.safetensors
wsurg merge a.st b.st --method linear -q --force -o a.st; echo $?
ls -A
