# Killed or asked to stop, a run goes on where it was: the bytes of an unbroken one.
cp -r "$CASES/../../examples/models/base" llm
i=0
while [ $i -lt 60 ]; do
    printf '{"prompt":"sum: %d+%d =","completion":" %d\\n"}\n' $i $i $((i + i))
    i=$((i + 1))
done >sums.jsonl
set -- llm --data sums.jsonl --full --batch 1 --seq 32 --lr 1e-3 --steps 200
set -- "$@" --progress none
wsurg tune "$@" -j 1 -o whole -q

for how in KILL.1 KILL.2 TERM.2; do
    signal=${how%.*} threads=${how#*.} out=$how
    wsurg tune "$@" -j $threads -o $out -q --save-every 20 --json=$how.json 2>err.txt &
    pid=$!
    until ls .$out.tune 2>/dev/null | grep -q '^step-'; do
        kill -0 $pid 2>/dev/null || break
        sleep 0.01
    done
    kill -s $signal $pid
    wait $pid 2>/dev/null
    echo "$signal, threads $threads: $?"
    [ ! -e $out ] && [ -d .$out.tune ] && echo 'a checkpoint and no output'
    sed -E 's/step [0-9]+ of/step N of/' err.txt
    [ $signal = KILL ] || grep -o '"status":"[a-z]*","exit":[0-9]*' $how.json
    wsurg tune "$@" -j $threads -o $out -q --resume
    cmp whole/model.safetensors $out/model.safetensors && echo 'the same bytes'
    [ ! -e .$out.tune ] && echo 'no checkpoint stays'
done
