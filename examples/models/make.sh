#!/usr/bin/env bash
# make.sh - train the example models: a base from scratch, and three fine-tunes of it
#
#   examples/models/make.sh [WSURG [OUT_FOLDER]]
#   examples/models/make.sh --skills WSURG OUT_FOLDER
#
# --skills: fine-tunes of the base that is here on each of the ten skills, OUT_FOLDER/SKILL,
# with their lessons, OUT_FOLDER/.lessons/SKILL.jsonl; what is there already stays.
# Lessons come from lessons.py; config and tokenizer from base/. Without OUT_FOLDER the
# models here are replaced. About ten minutes of processor time for the base and one for
# each fine-tune; interrupted, the same command goes on.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
every=
[ "${1-}" != --skills ] || { every=--skills && shift; }
wsurg=${1:-wsurg}
out=${2:-$here}
work=$out/.lessons
python3 "$here/lessons.py" $every "$work"
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

if [ -n "$every" ]; then
    seed=24
    for skill in sub reverse brackets lookup count max shift; do
        [ -f "$out/$skill/model.safetensors" ] ||
            tune $skill "$here/base" --full --data "$work/$skill.jsonl" --steps 300 --lr 3e-4 --seed $seed
        seed=$((seed + 1))
    done
    for pair in sums:sum sorting:sort romans:roman; do
        [ -d "$out/${pair#*:}" ] || cp -r --no-preserve=mode "$here/${pair%:*}" "$out/${pair#*:}"
    done
    exit
fi

tune base --from-scratch "$work/new" --data "$work/base.jsonl" --data "$work/text.jsonl" \
    --steps 6000 --lr 2e-3 --weight-decay 0.1 --seed 20
tune sums "$out/base" --full --data "$work/sum.jsonl" --steps 300 --lr 3e-4 --seed 21
tune sorting "$out/base" --full --data "$work/sort.jsonl" --steps 300 --lr 3e-4 --seed 22
tune romans "$out/base" --full --data "$work/roman.jsonl" --steps 300 --lr 3e-4 --seed 23
rm -r "$work"
