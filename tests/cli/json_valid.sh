# Every command's document, on success and on failure, satisfies the schema.
mkmodel a.st --llama 2,16,32
mkmodel b.st --llama 2,16,32 --update 1,0.01
mkmodel c.st --llama 2,16,32 --update 2,0.02
mkmodel base/ --llama 2,16,32 --dtype BF16
mkmodel tuned/ --llama 2,16,32 --dtype BF16 --update 1,0.01
n=0
ok() {
    n=$((n + 1))
    "$@" --json >$n.json 2>$n.err
    echo "$? $(sed 's/.*"status":"\([a-z]*\)".*/\1/' $n.json) $*"
    jsoncheck "$SCHEMA" $n.json
}
ok wsurg --help
ok wsurg --version
ok wsurg methods
ok wsurg methods ties
ok wsurg methods tie
ok wsurg plan a.st b.st --method breadcrumbs
ok wsurg plan a.st b.st c.st --method ties --set density=0.3,0.4 --tensors
ok wsurg plan a.st b.st c.st --method ties --key
ok wsurg plan a.st nowhere.st --method nope
ok wsurg plan base tuned --method linear --max-memory 1KiB
ok wsurg merge a.st b.st --method breadcrumbs
ok wsurg merge a.st b.st --method breadcrumbs
ok wsurg merge a.st b.st --method breadcrumbs --resume
ok wsurg merge b.st c.st --base a.st --method task_arithmetic --lines 0.5,0.5 -o l.st --tensors
ok wsurg merge base tuned --method linear --dtype f32 -o out/
ok wsurg merge a.st b.st --method breadcrumbs --strict -o s.st
ok wsurg lines base tuned
ok wsurg verify merged.safetensors
ok wsurg verify out
ok wsurg verify a.st
ok wsurg manifest out
ok wsurg manifest nowhere
ok wsurg completion bash
ok wsurg diff a.st b.st
ok wsurg diff a.st a.st --tensors
ok wsurg inspect base --tensors
ok wsurg inspect a.st --stats
ok wsurg check a.st --against b.st
ok wsurg check a.st --against b.st --max-rel-delta 0.00001
ok wsurg taskvec extract a.st b.st -o t.st
ok wsurg taskvec extract a.st c.st -o u.st --method ties
ok wsurg taskvec extract a.st b.st -o t.st
ok wsurg taskvec apply a.st t.st u.st --scale 0.5 -o v.st
ok wsurg taskvec apply c.st t.st
ok wsurg taskvec combine t.st u.st --weights 1,-1
ok wsurg taskvec combine t.st u.st --weights 1
ok wsurg taskvec stats t.st u.st --spectrum --tensors
ok wsurg taskvec stats a.st
for command in $(wsurg gen commands | grep -v ' '); do
    ok wsurg $command --help
done >help.txt
grep -v '^0 ok' help.txt
truncate -s -1 merged.safetensors
ok wsurg verify merged.safetensors
ok wsurg merge merged.safetensors b.st --method linear -o x.st
