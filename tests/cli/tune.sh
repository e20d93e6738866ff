# A short fine-tune of the example model: what is said, written and logged; the same
# bytes at any number of threads, whole or in pieces.
cp -r "$CASES/../../examples/models/base" llm
i=0
while [ $i -lt 60 ]; do
    printf '{"prompt":"sum: %d+%d =","completion":" %d\\n"}\n' $i $i $((i + i))
    i=$((i + 1))
done >sums.jsonl
head -n 12 sums.jsonl >val.jsonl
set -- llm --data sums.jsonl --batch 2 --seq 48 --lr 1e-3 --steps 5 --progress none
wsurg tune "$@" --full -j 1 --log log.jsonl 2>err.txt
echo $? && sed -E -e 's/[0-9.]+ k? ?tokens\/s · [0-9.]+ s/RATE · TIME s/' err.txt
ls tuned
wsurg verify tuned | tail -n 1
sed -E 's/("(loss|grad_norm|tokens_per_second)":)[0-9.e+-]+/\1N/g' log.jsonl
cmp -s tuned/model.safetensors llm/model.safetensors || echo 'it has changed'
cp log.jsonl whole.jsonl

echo '- in pieces, at two threads'
n=0
while
    wsurg tune "$@" --full -j 2 -o pieces --max-time 0.0001 --log log.jsonl --resume -q \
        2>err.txt
    status=$?
    [ $status = 8 ]
do
    n=$((n + 1))
    [ -d .pieces.tune ] || echo 'no checkpoint'
    cat err.txt | head -n 1
done
echo "$status after $n"
cmp tuned/model.safetensors pieces/model.safetensors && echo 'the same bytes'
[ ! -e .pieces.tune ] && echo 'no checkpoint stays'
for f in whole log; do
    sed -E 's/,"tokens_per_second.*//' $f.jsonl >$f.txt
done
cmp whole.txt log.txt && echo 'the same log'

wsurg tune "$@" --full --resume -o pieces; echo $?
wsurg tune "$@" --full --resume -o pieces --seed 1; echo $?

echo '- LoRA, validated, accumulated'
set -- "$@" --lora --rank 2 --target q_proj --accumulate 2 --val val.jsonl --eval-every 2
wsurg tune "$@" -j 1 -o a1 -q --json=a.json
jsoncheck "$SCHEMA" a.json
sed -E -e 's/("(bytes|tokens_per_second|loss[a-z_]*|weights|activations|logits|data|program|total|limit|gflop_per_token)":)[0-9.e+-]+/\1N/g' \
    -e 's/(xxh3-128|sha256):[0-9a-f]+/\1:DIGEST/g' a.json
wsurg tune "$@" -j 2 -o a2 -q
cmp a1/adapter_model.safetensors a2/adapter_model.safetensors && echo 'the same bytes'
ls a1
wsurg tune llm --adapter a1 --data sums.jsonl --seq 48 --steps 1 --lr 0 -o a3 -q
cmp a1/adapter_model.safetensors a3/adapter_model.safetensors >/dev/null ||
    wsurg diff a1/adapter_model.safetensors a3/adapter_model.safetensors | tail -n 1

echo '- from scratch'
mkdir new && cp llm/config.json llm/tokenizer.json llm/tokenizer_config.json new
wsurg tune --from-scratch new/config.json --data sums.jsonl --seq 48 --steps 2 -o n1 -q
wsurg tune --from-scratch new --data sums.jsonl --seq 48 --steps 2 -o n2 -q -j 2
cmp n1/model.safetensors n2/model.safetensors && ls n1 &&
    wsurg inspect n1 | head -n 2

echo '- estimate'
wsurg tune "$@" --estimate -q | sed -E -e 's/[0-9.]+[^0-9a-z]*([kM][^0-9a-z]*)?tokens/N tokens/' \
    -e 's/^(time +).* for/\1N s for/' -e 's/[0-9.]+/N/g'
ls -d tuned2 .tuned2.tune 2>/dev/null || echo 'nothing is written'

echo '- memory: what was said before, and what it came to'
yes 'sum: 1+1 = 2' | head -n 3000 >text.txt
for kind in --full --lora '--from-scratch new'; do
    model=llm && [ "$kind" = "${kind#--from}" ] || model=
    wsurg tune $model $kind --data text.txt --steps 2 -j 2 -o m1 --force -q --json=m.json
    sed -E 's/.*"program":([0-9]+),"total":([0-9]+),.*"peak_memory_bytes":([0-9]+).*/\1 \2 \3/' \
        m.json >m.txt
    read -r program total peak <m.txt
    # A build that watches its memory holds more than it says; the pages of libraries
    # are in what is said, and not in the peak.
    if [ "$program" -gt 40000000 ] || grep -q __tsan_init "$(command -v wsurg)" ||
        { [ "$peak" -le "$total" ] && [ $((peak * 13)) -ge $((total * 10)) ]; }; then
        echo "$kind as said"
    else
        echo "$kind: said $total, was $peak"
    fi
done
wsurg tune llm --full --data text.txt --max-memory 24MiB -o m2 --log m2.jsonl 2>err.txt
echo $? && sed -E 's/[0-9.]+ [kMG]B/N MB/g' err.txt
[ ! -e m2 ] && [ ! -e m2.jsonl ] && echo 'before it began'

echo '- dropout, which is not there'
cp -r llm drop && chmod -R u+w drop
sed -i 's/"attention_dropout": *0.0/"attention_dropout":0.25/' drop/config.json
wsurg tune drop --full --data sums.jsonl --seq 48 --steps 1 --progress none -o m4 2>&1 | head -n 1

echo '- a warning, when none is allowed'
cp -r llm short && chmod -R u+w short
sed -i 's/"num_hidden_layers": *5/"num_hidden_layers":4/' short/config.json
wsurg tune short --full --data sums.jsonl --seq 48 --steps 1 --strict -o m5 2>&1; echo $?
ls -d m5 .m5.tune 2>/dev/null || echo 'nothing is written'

echo '- a weight that is too large'
cp -r llm huge && chmod -R u+w huge
bytes=$(wc -c <huge/model.safetensors)
printf '\177\177' | dd of=huge/model.safetensors bs=1 seek=$((bytes - 2)) conv=notrunc 2>dd.txt
wsurg tune huge --full --data sums.jsonl --seq 48 -o m3 2>&1; echo $?
