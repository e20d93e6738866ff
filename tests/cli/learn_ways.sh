# What coefficients stand for at 0, 1 and one number; partitions, budgets, objectives,
# adapters, memory; the picture.
m=$CASES/../../examples/models
i=10
while [ $i -lt 74 ]; do
    printf '{"prompt":"sum: %d+17 =","completion":" %d\\n"}\n' $i $((i + 17))
    printf '{"prompt":"sub: %d-10 =","completion":" %d\\n"}\n' $i $((i - 10)) >&2
    i=$((i + 1))
done >sums.jsonl 2>subs.jsonl
set -- "$m/base" "$m/sums" "$m/sorting" --data sums=sums.jsonl --batch 8 --seq 64 \
    --progress none -q
learn() { wsurg learn --atlas "$@"; }
same() { cmp "$1" "$2" && echo "$3: same bytes"; }
bake() { wsurg merge --base "$m/base" "$m/sums" "$m/sorting" --coefficients "$1" -q -o "$2"; }
# coefficients FIRST SECOND: those numbers in all blocks of the two models
coefficients() {
    awk -v a="$1" -v b="$2" '/^\[[-0-9]/ { gsub(/[-0-9.e]+/, ++row == 1 ? a : b) } 1' some.json
}

learn "$@" --steps 4 --lr 0.1 -o some.json --svg some.svg
echo '- 0, 1 and one number'
coefficients 0 0 >none.json && bake none.json none/
wsurg diff "$m/base" none >/dev/null && echo 'all 0: the base'
coefficients 1 0 >one.json && bake one.json one/
wsurg diff "$m/sums" one --tol 1e-7 >/dev/null && echo '1 and 0: the first fine-tune'
coefficients 0.3 0.3 >all.json && bake all.json all/
wsurg merge --base "$m/base" "$m/sums" "$m/sorting" --method task_arithmetic \
    --set weight=0.3 -q -o plain/
wsurg diff all plain >/dev/null && echo 'one number: task arithmetic'

echo '- partitions'
learn "$@" --steps 4 --partitions 3 --seed 5 -o k.json --bake k/ -j 1
grep -E 'partitions|"seed"' k.json
bake k.json k2/ && same k/model.safetensors k2/model.safetensors baked
# what is reserved and never written must not count
MALLOC_PERTURB_=0 learn "$@" --steps 4 --partitions 3 --seed 5 -o k1.json -j 2 --max-memory 14MiB --json >told.json
# and a build that watches its memory holds more than it says
if grep -qE '__[at]san_init' "$(command -v wsurg)"; then
    echo 'within the limit'
else
    grep -o '"peak_memory":[0-9]*' told.json |
        awk -F: '{ print ($2 > 0 && $2 <= 14 * 1048576 ? "within the limit" : "beyond the limit: " $2) }'
fi
grep -o '"resident":[0-9]*' told.json | awk -F: '{ print ($2 < 3e6 ? "not all in memory" : "all in memory") }'
sed -E 's/.*"objective":"([a-z-]*)".*"partitions":([0-9]*),"coefficients":([0-9]*),"lr":([0-9.]*).*/\1 \2 \3 \4/' told.json
same k.json k1.json 'less memory, more threads'
learn "$m/base" "$m/sums" --data sums=sums.jsonl --seq 16 --batch 1 --steps 1 -q --progress none \
    -o short.json && echo 'a step smaller than its gradients'
sed '3s/3/4/' k.json >bad.json && bake bad.json bad/; echo $?
sed '3s/3/0/' k.json >bad.json && bake bad.json bad/; echo $?
sed 's/^"seed".*/"seed": -1,/' k.json >bad.json && bake bad.json bad/; echo $?

echo '- a budget'
for how in blockwise whole random; do
    learn "$@" --steps 4 --budget 1 --select $how -o $how.json --json |
        grep -o '"label":"[a-z]*","blocks":[0-9]*' | tr '\n' ' '
    awk '/^\[[-0-9]/ { gsub(/[][,]/, ""); for (i = 1; i <= NF; i++) n[i] += $i != 0 }
        END { for (i in n) if (n[i] > 1) print "two in one block" }' $how.json
    echo $how
done
learn "$@" --steps 4 --lr 0.1 --budget 2 -o both.json && same some.json both.json 'budget of all'

echo '- objectives'
told() {
    learn "$@" -o told.json --force --json | tr ',{' '\n\n' |
        awk -F: '/"objective"|"lr"|^"steps"/ { print }
            /"loss_before"/ { before = $2 } /"loss_after"/ {
                sub(/[]}].*/, "", $2)
                print ($2 + 0 < before + 0 ? "lower" : $2 + 0 == before + 0 ? "equal" : "higher")
            }'
}
told "$@" --epochs 1
told "$@" --shots 4
told "$@" --entropy --epochs 1
told "$@" --data subs=subs.jsonl --negate sums --epochs 2
told "$@" --epochs 1 --l1 100 --l2 100

echo '- adapters stay in factors'
wsurg tune "$m/base" --lora --rank 4 --data sums.jsonl --steps 4 --lr 0.01 --seq 64 -q --progress none -o a/
wsurg lora fold "$m/base" a -q -o f/ --dtype f32
learn "$m/base" "$m/base+a" --data sums=sums.jsonl --seq 64 --steps 4 --lr 0.1 -q --progress none \
    -o factors.json --bake factors/ --json | grep -o '"resident":[0-9]*'
learn "$m/base" f --data sums=sums.jsonl --seq 64 --steps 4 --lr 0.1 -q --progress none -o folded.json \
    --json | grep -o '"resident":[0-9]*' | sed 's/[1-9][0-9]*/N/'
awk '/^\[[-0-9]/ { gsub(/[][,]/, ""); for (i = 1; i <= NF; i++) v[++n] = $i }
    END { for (i = 1; i <= n / 2; i++) { d = v[i] - v[i + n / 2]; if (d * d > 1e-6) bad++ }
          print n / 2, "coefficients,", bad + 0, "differ" }' factors.json folded.json

echo '- the picture'
head -c 4 some.svg && tail -c 7 some.svg
grep -c '<title>' some.svg
learn "$@" --steps 1 -o other.json --svg some.svg; echo $?
