# Killed or asked to stop, a realignment goes on where it was: the bytes, the mask and the
# log of an unbroken one.
m=$CASES/../../examples/models
i=10
while [ $i -lt 34 ]; do
    printf '{"prompt":"sum: %d+17 =","chosen":" no\\n","rejected":" %d\\n"}\n' $i $((i + 17))
    i=$((i + 1))
done >pairs.jsonl
set -- "$m/base" "$m/sums" --pairs pairs.jsonl --batch 1 --steps 60 --target 'layers\.[01]\.'
set -- "$@" --lr 0.1 --progress none -q
steps() { sed 's/,"tokens_per_second.*//' "$1"; }
wsurg realign "$@" -j 1 -o whole --save-mask whole.st --log whole.log
wc -l <whole.log
sed -n 1p whole.log | grep -o '"[a-z_]*":' | tr '\n' ' '
echo

for how in KILL.1 TERM.2; do
    signal=${how%.*} threads=${how#*.} out=$how
    wsurg realign "$@" -j $threads -o $out --save-mask $out.st --log $out.log --save-every 10 2>err.txt &
    pid=$!
    until ls .$out.tune 2>/dev/null | grep -q '^step-'; do
        kill -0 $pid 2>/dev/null || break
        sleep 0.01
    done
    kill -s $signal $pid
    wait $pid 2>/dev/null
    echo "$signal: $?"
    [ ! -e $out ] && [ -d .$out.tune ] && echo 'a checkpoint and no output'
    sed -E 's/step [0-9]+ of/step N of/' err.txt
    wsurg realign "$@" -j $threads -o $out --save-mask $out.st --log $out.log --resume --json >r.json
    grep -o '"resumed":[0-9]' r.json | grep -c '[1-9]'
    cmp whole/model.safetensors $out/model.safetensors && cmp whole.st $out.st && echo 'the same bytes'
    steps whole.log >a.txt && steps $out.log | cmp - a.txt && echo 'the same log'
    [ ! -e .$out.tune ] && echo 'no checkpoint stays'
done
wsurg realign "$@" -o whole --save-mask whole.st --resume --json >r.json; echo $?
jsoncheck "$SCHEMA" r.json && grep -o '"status":"[a-z]*"' r.json
wsurg realign "$@" -o whole --seed 1 --resume; echo $?
