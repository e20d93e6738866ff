# Masks and plans that a fine-tuning takes: what is frozen stays bit for bit, decay and
# momentum included, and the rest is trained.
cp -r "$CASES/../../examples/models/base" llm
m=llm
i=10
while [ $i -lt 40 ]; do
    printf '{"prompt":"sum: %d+17 =","completion":" %d\\n"}\n' $i $((i + 17))
    i=$((i + 1))
done >sums.jsonl
tune() { # OUT OPTION...
    wsurg tune "$m" --full --data sums.jsonl --steps 3 --batch 4 --seq 48 --lr 1e-3 \
        --weight-decay 0.1 -q -o "$@"
}
changed() { wsurg diff "$m" "$1" --json | sed -E 's/.*"tensors":\{("equal":[0-9]+,"changed":[0-9]+).*/\1/'; }

echo '- LT-SFT: movement, rewind, masked training, a sparse vector'
tune dense --steps 2
wsurg mask lt-sft "$m" dense --count 4000 --freeze norm -o top.st -q
wsurg mask stats top.st | sed -n '1p'
tune sparse --mask top.st
wsurg mask invert top.st --against "$m" -o rest.st -q
wsurg mask apply "$m" sparse rest.st -o outside -q
wsurg diff outside "$m" | tail -n 1
wsurg taskvec extract "$m" sparse -o task.st -q
wsurg taskvec stats task.st --json | sed -E 's/.*"index":([0-9]+).*"elements":([0-9]+),"density":([0-9.]+).*/\1 \2 \3/' |
    awk '{ print ($2 * $3 <= 4000 ? "at most 4000 entries" : $2 * $3) }'
wsurg taskvec combine task.st task.st --weights 0.5,0.5 -o again.st -q
wsurg taskvec apply "$m" again.st -o back -q
wsurg diff back sparse | tail -n 1

echo '- HFT'
wsurg mask hft "$m" --seed 1 -o plan.json
wsurg mask hft "$m" --seed 1 --round 1 -o round.json --json | sed -E 's/.*("layers".*)\},"run.*/\1/'
grep -c 'attn' plan.json && grep -c 'mlp' plan.json
cmp -s plan.json round.json || echo 'another round, another plan'
wsurg mask hft "$m" --seed 1 -o plan2.json -q && cmp plan.json plan2.json && echo 'the same seed'
tune half --freeze-plan plan.json
wsurg mask half-reset "$m" half --freeze-plan plan.json -o reset -q
wsurg diff reset half | tail -n 1
changed half
wsurg mask half-reset "$m" dense --seed 1 -o reset2
changed reset2

mkmodel even.st --llama 4,16,32
for seed in 1 2 3; do
    wsurg mask hft even.st --seed $seed -o even$seed.json --json -q |
        sed -E 's/.*"share":([0-9.]+).*/\1/' | awk '{ print ($1 > 0.49 && $1 < 0.51 ? "half" : $1) }'
    for layer in 0 1 2 3; do
        grep "layers.$layer.self_attn" even$seed.json | wc -l
    done | sort | uniq -c
    for layer in 0 1 2 3; do
        grep "layers.$layer.mlp" even$seed.json | wc -l
    done | sort | uniq -c
done

echo '- sensitivity'
wsurg mask sensitivity "$m" --data sums.jsonl --batches 2 --batch 4 --seq 48 --count 3000 \
    -o s.st -j 1 -q >s.txt
wsurg mask sensitivity "$m" --data sums.jsonl --batches 2 --batch 4 --seq 48 --count 3000 \
    -o s2.st -j 2 --json --tensors -q >s.json
jsoncheck "$SCHEMA" s.json && cmp s.st s2.st && echo 'the same bytes'
wsurg mask stats s.st | sed -n 1p | sed -E 's/of [0-9]+.*/of .../'
wsurg mask sensitivity "$m" --data sums.jsonl --batches 2 --batch 4 --seq 48 --count 1000 -o s3.st -q >s.txt
wsurg mask combine s.st s3.st --op and -o both.st -q && wsurg mask stats both.st | sed -n 1p | cut -d' ' -f3
grep -c embed s.json

echo '- grafting'
set -- "$m" "$CASES/../../examples/models/sums" --data sums.jsonl --seq 48 --share 0.02 \
    --epochs 2 --batches 2 --batch 4 --progress none
wsurg mask graft "$@" -o g.st -j 1 2>err.txt; echo $?
sed -E 's/0\.[0-9]{4}/N/g;s/[0-9.]+ entries \([0-9.]+ %\)/N entries (P)/;s/[0-9.]+ % of what/P of what/;s/epoch [0-9]/epoch K/' err.txt
wsurg mask graft "$@" -o g2.st -j 2 -q --json >g.json && cmp g.st g2.st && echo 'the same bytes'
jsoncheck "$SCHEMA" g.json
sed -E 's/.*"loss_base":([0-9.]+),"loss_model":([0-9.]+),"loss_patch":([0-9.]+),"loss_best":([0-9.]+).*/\1 \2 \3 \4/' g.json |
    awk '{ print ($2 < $1), ($3 < $1), ($4 <= $3) }'
wsurg mask apply "$m" "$CASES/../../examples/models/sums" g.st -o grafted -q
wsurg eval grafted --data sums.jsonl --json -q | sed -E 's/.*"loss":([0-9.]+).*/\1/' >loss.txt
sed -E 's/.*"loss_best":([0-9.]+).*/\1/' g.json | paste - loss.txt |
    awk '{ print ($1 - $2 < 1e-3 && $2 - $1 < 1e-3 ? "what was scored is what was written" : $0) }'
wsurg mask graft "$@" --epochs 0 -o g0.st -q
wsurg mask lt-sft "$m" "$CASES/../../examples/models/sums" --share 0.02 --freeze embed -o top2.st -q
wsurg mask stats g0.st top2.st | tail -n 1
wsurg mask graft "$@" --epochs 0 -o g0.st --force -q; echo $?

echo '- by name, by layer, soft'
tune named --target '(up|down)_proj' --layers 2-3
changed named
printf 'mask' >mask.txt
mkmodel soft.st model.layers.0.mlp.up_proj.weight:F32:1:1 model.layers.1.mlp.up_proj.weight:F32:1:0
tune soft --mask soft.st
changed soft
tune up --target 'layers.0.mlp.up_proj'
wsurg diff soft up | tail -n 1

echo '- mistakes'
tune x --freeze-plan s.json; echo $?
printf '{"schema":"wsurg-freeze-plan/1","frozen":["no.such"]}' >bad.json
tune x --freeze-plan bad.json; echo $?
tune x --target nothing_such; echo $?
mkmodel bad.st model.layers.0.mlp.up_proj.weight:F32:1:7
tune x --mask bad.st; echo $?
wsurg tune "$m" --lora --freeze-plan plan.json --data sums.jsonl -o x; echo $?
wsurg mask hft s.st -o x.json; echo $?
wsurg mask hft "$m" -o plan.json; echo $?
wsurg mask half-reset "$m" dense --freeze-plan plan.json --seed 2 -o x; echo $?
wsurg mask sensitivity "$m" --data sums.jsonl -o s.st; echo $?
wsurg mask sensitivity "$m" -o x.st; echo $?
ls -d x x.json x.st 2>/dev/null
echo end
