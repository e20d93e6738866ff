# Adapters alone: their factors are masked, each by itself, and an adapter comes out; the
# mask puts on another adapter what it put on the first; mistakes.
m=$CASES/../../examples/models
i=10
while [ $i -lt 22 ]; do
    printf '{"prompt":"sum: %d+17 =","chosen":" no\\n","rejected":" %d\\n"}\n' $i $((i + 17))
    i=$((i + 1))
done >pairs.jsonl
sed 's/"chosen":" no\\n",//;s/rejected/completion/' pairs.jsonl >task.jsonl
tune() { wsurg tune "$m/base" --steps 3 --batch 4 --lr 5e-3 -q "$@"; }
tune --lora --target 'layers\.0\..*_proj' --rank 2 --data pairs.jsonl -o al
tune --adapter al --data task.jsonl -o one
tune --adapter al --data task.jsonl --seed 1 --lr 1e-2 -o two
tune --lora --target 'layers\.0\..*_proj' --rank 2 --data task.jsonl -o new
set -- --pairs pairs.jsonl --batch 4 --steps 4 --lr 0.3 --progress none
wsurg realign "$m/base+al" one "$@" -j 1 -o re --save-mask re.st 2>err.txt
sed -E 's/[0-9]\.[0-9]+ -> [0-9]\.[0-9]+/A -> B/;s/mean 0\.[0-9]+/mean M/;s/[0-9.]+ %/P %/g' err.txt
wsurg realign "$m/base+al" one "$@" -j 2 -o re2 -q
cmp re/adapter_model.safetensors re2/adapter_model.safetensors && echo 'same bytes'
wsurg mask stats re.st | sed -n 1p | sed -E 's/[0-9.]+ of/N of/;s/\([0-9.]+ %\)/(P)/'
for base in al "$m/base+al"; do
    wsurg mask apply "$base" one re.st -q -o applied --force
    wsurg diff applied re | tail -n 1
done
wsurg mask apply al two re.st -q -o other --json >m.json && jsoncheck "$SCHEMA" m.json
wsurg eval "$m/base+other" --data task.jsonl --json -q | grep -o '"exit":0'

echo '- the base without an adapter; operators; scopes'
wsurg realign "$m/base" new "$@" -q -o fresh --save-mask fresh.st
wsurg mask apply "$m/base" new fresh.st -q -o fresh2
wsurg diff fresh fresh2 | tail -n 1
for op in task_arithmetic ties dare average; do
    wsurg realign "$m/base+al" one two "$@" --operator $op -q -o $op
    wsurg diff al $op | tail -n 1
done
wsurg realign "$m/base+al" one two "$@" -q -o row --mask-scope row --json >r.json
jsoncheck "$SCHEMA" r.json && sed -E 's/.*"entries":([0-9]+),"logits":([0-9]+).*/\1 \2/' r.json
wsurg realign "$m/base+al" one "$@" -q --target 'q_proj.*lora_A' -o part
wsurg diff al part | tail -n 1
for k in task_arithmetic ties dare; do
    grep -ao '\\"lambda\\":[0-9.]*' $k/adapter_model.safetensors | cut -c1-16
done

echo '- mistakes'
tune --lora --target 'layers\.0\..*_proj' --rank 3 --data task.jsonl -o wide
wsurg realign "$m/base+al" one wide "$@" -o x; echo $?
tune --lora --target 'layers\.0\..*q_proj' --rank 2 --data task.jsonl -o few
wsurg realign "$m/base+al" few "$@" -o x; echo $?
wsurg realign "$m/base" one "$m/sums" "$@" -o x; echo $?
wsurg mask apply few few re.st -o x; echo $?
wsurg mask apply few one re.st -o x; echo $?
wsurg realign "$m/base" al "$@" -o re; echo $?
ls -d x 2>/dev/null
echo end
