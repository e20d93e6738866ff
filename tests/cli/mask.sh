# Masks: chosen, measured, combined, inverted, applied; the same bytes at any number of
# threads; what is out keeps the base's bits, what is in has the model's.
mkmodel base/ --llama 2,16,32 --dtype BF16
mkmodel tuned/ --llama 2,16,32 --dtype BF16 --update 1,0.05
mkmodel other/ --llama 2,16,32 --dtype BF16 --update 2,0.05
wsurg mask lt-sft base tuned --share 0.1 -o m.st --progress none -j 1
wsurg mask lt-sft base tuned --share 0.1 -o m2.st -q -j 3
cmp m.st m2.st && echo 'same bytes'
wsurg mask lt-sft base other --count 500 --freeze norm -o n.st -q
wsurg mask stats m.st n.st
wsurg mask stats n.st --json --tensors >n.json && jsoncheck "$SCHEMA" n.json
grep -c norm n.json

echo '- combined'
for op in and or xor minus majority; do
    wsurg mask combine m.st n.st --op $op -o $op.st -q --json |
        sed -E 's/.*"tensors":([0-9]+),"entries":([0-9]+),"set":([0-9]+).*/\1 \2 \3/'
done
wsurg mask invert m.st --against base -o rest.st -q
wsurg mask combine m.st rest.st --op and -o nothing.st -q
wsurg mask stats rest.st nothing.st | grep -v layer

echo '- applied'
wsurg mask apply base tuned m.st -o part/
wsurg diff base part | tail -n 1
wsurg mask apply part tuned rest.st -o whole/ -q
wsurg diff whole tuned >diff.txt && echo 'both parts are the fine-tune'
wsurg taskvec extract base part -o t.st -q && wsurg taskvec stats t.st | sed -n 2p
wsurg mask apply base tuned nothing.st -o none/ -q
cmp none/model.safetensors base/model.safetensors || wsurg diff none base | tail -n 1
wsurg mask apply base tuned m.st --scale tensor -o more/ -q
wsurg mask apply base tuned m.st --scale tensor -o more2/ -q -j 3 --max-memory 24MiB
cmp more/model.safetensors more2/model.safetensors && echo 'same bytes'
wsurg diff base more | tail -n 1

echo '- one for each row, one for all'
mkmodel a.st x:F32:4x3:rnd1 y:F32:5:rnd2
mkmodel b.st x:F32:4x3:rnd3 y:F32:5:rnd4
mkmodel row.st x:BOOL:4:1 y:BOOL:1:0
wsurg mask apply a.st b.st row.st -o r.st -q && wsurg diff a.st r.st | tail -n 1

echo '- mistakes'
wsurg mask lt-sft base tuned; echo $?
wsurg mask lt-sft base tuned -o m.st; echo $?
wsurg mask lt-sft base tuned -o m/; echo $?
wsurg mask lt-sft base base -o x.st; echo $?
wsurg mask lt-sft base tuned --count 3 --share 0.5 -o x.st; echo $?
wsurg mask lt-sft base tuned --freeze nothing_such -o x.st; echo $?
wsurg mask lt-sft base a.st -o x.st; echo $?
wsurg mask apply base tuned tuned -o x/; echo $?
wsurg mask apply base tuned row.st -o x/; echo $?
wsurg mask apply m.st tuned m.st -o x/; echo $?
mkmodel bad.st x:BOOL:5:1
wsurg mask apply a.st b.st bad.st -o x.st; echo $?
wsurg mask combine row.st bad.st -o x.st; echo $?
wsurg merge base m.st --method linear -o x/; echo $?
ls | tr '\n' ' '
