#!/usr/bin/env bash
# tune-merge-eval.sh - two skills learnt apart, merged, and everything measured
#
#   examples/pipelines/tune-merge-eval.sh OUT_FOLDER [WSURG]
#
# The base of the example models learns sums in one copy and sorting in another; the
# merge takes both updates, Breadcrumbs without what is large or small, LiNeS scaled by
# depth. A run that was interrupted goes on where it was.
set -euo pipefail
models=$(cd "$(dirname "${BASH_SOURCE[0]}")/../models" && pwd)
out=$1
wsurg=${2:-wsurg}

lines() { # SKILL SPLIT COUNT
    python3 "$models/skills.py" --skill "$1" --split "$2" --count "$3" --jsonl
}
for skill in sum sort; do
    lines "$skill" train 4000 >"$out/$skill.jsonl"
    lines "$skill" eval 100 >"$out/$skill.eval.jsonl"
    [ -d "$out/$skill" ] || "$wsurg" tune "$models/base" --full --data "$out/$skill.jsonl" \
        --steps 60 --batch 4 --seq 256 --lr 5e-4 --schedule cosine --warmup 5 \
        --betas 0.9,0.98 --resume -q -o "$out/$skill/"
done

"$wsurg" merge --base "$models/base" "$out/sum" "$out/sort" --method breadcrumbs \
    --set density=0.9 --set gamma=0.01 --lines 0.5,0.5 --force -q -o "$out/merged/"
"$wsurg" verify "$out/merged/" | tail -n 1

# Losses of each model on each skill: the merge knows something of both.
"$wsurg" eval "$models/base" "$out/sum" "$out/sort" "$out/merged" \
    --data sum="$out/sum.eval.jsonl" --data sort="$out/sort.eval.jsonl"
