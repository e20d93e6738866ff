#!/usr/bin/env bash
# learn.sh - how much of each fine-tune each tensor wants, learned from a few examples
#
#   examples/pipelines/learn.sh OUT_FOLDER [WSURG]
#
# Coefficients of two fine-tunes are learned on examples of both skills (aTLAS), and the
# losses stand beside those of the plain sum of the two.
set -euo pipefail
models=$(cd "$(dirname "${BASH_SOURCE[0]}")/../models" && pwd)
out=$1
wsurg=${2:-wsurg}

for i in $(seq 10 89); do
    printf '{"prompt":"sum: %d+17 =","completion":" %d\\n"}\n' "$i" $((i + 17))
done >"$out/sums.jsonl"
for letters in 'r y s' 'u n d p r' 'h q m' 'l y g' 'k a t z' 'w b o' 'e x c v' 'f j i'; do
    sorted=$(tr ' ' '\n' <<<"$letters" | sort | paste -sd ' ')
    printf '{"prompt":"sort: %s =","completion":" %s\\n"}\n' "$letters" "$sorted"
done >"$out/sort.jsonl"

"$wsurg" learn --atlas "$models/base" "$models/sums" "$models/sorting" \
    --data sum="$out/sums.jsonl" --data sort="$out/sort.jsonl" \
    --steps 30 --batch 8 --seq 64 --lr 0.1 --force -o "$out/coefficients.json"
"$wsurg" merge --base "$models/base" "$models/sums" "$models/sorting" \
    --coefficients "$out/coefficients.json" --force -q -o "$out/learnt/"
"$wsurg" merge --base "$models/base" "$models/sums" "$models/sorting" \
    --method task_arithmetic --force -q -o "$out/sum-of-both/"
"$wsurg" eval "$models/base" "$out/sum-of-both" "$out/learnt" --data sum="$out/sums.jsonl" \
    --data sort="$out/sort.jsonl"
