#!/usr/bin/env bash
# make.sh - train the example models: a base from scratch, and three fine-tunes of it
#
#   examples/models/make.sh [WSURG [OUT_FOLDER]]
#
# Lessons come from lessons.py; config and tokenizer from base/. Without OUT_FOLDER the
# models here are replaced. About ten minutes of processor time for the base and one for
# each fine-tune; interrupted, the same command goes on.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wsurg=${1:-wsurg}
out=${2:-$here}
work=$out/.lessons
python3 "$here/lessons.py" "$work"
mkdir -p "$work/new"
cp "$here"/base/{config,generation_config,special_tokens_map,tokenizer,tokenizer_config}.json \
    "$work/new"

# tune NAME OPTION...: train $out/NAME, and put it in the place of what is there
tune() {
    local name=$1
    shift
    "$wsurg" tune "$@" --seq 256 --batch 8 --schedule cosine --warmup 0.05 \
        --betas 0.9,0.98 --save-every 500 --resume --manifest none -o "$work/$name"
    mkdir -p "$out/$name"
    cp "$work/$name"/* "$out/$name"
}

tune base --from-scratch "$work/new" --data "$work/base.jsonl" --data "$work/text.jsonl" \
    --steps 6000 --lr 2e-3 --weight-decay 0.1 --seed 20
tune sums "$out/base" --full --data "$work/sum.jsonl" --steps 300 --lr 3e-4 --seed 21
tune sorting "$out/base" --full --data "$work/sort.jsonl" --steps 300 --lr 3e-4 --seed 22
tune romans "$out/base" --full --data "$work/roman.jsonl" --steps 300 --lr 3e-4 --seed 23
rm -r "$work"
