#!/usr/bin/env bash
# forget.sh - what fine-tuning on Spanish makes a small story model forget, by adapter
#
#     forget.sh [--work FOLDER] MODEL TRAIN.txt EVAL.txt
#
# LoRA, PiSSA, CorDA-IPM (calibrated on the training text) and CorDA-KPM (calibrated on
# text that the model itself wrote), at equal rank, steps, rate and scale 1; three seeds.
# Losses in nats per token: on the held-out text of the new language, and on held-out
# text of the model's own. WSURG names the program.
set -euo pipefail
cd "$(dirname "$0")/../.."
wsurg=${WSURG:-build/wsurg} work=
[ "${1-}" != --work ] || { work=$2 && shift 2; }
[ $# -eq 3 ] || { sed -n '2,10p' "$0" && exit 2; }
model=$1 train=$2 eval=$3
. tests/bench/lib.sh
[ -n "$work" ] || { work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT; }
mkdir -p "$work"
rank=16 steps=${STEPS:-200} rate=${RATE:-1e-3} seeds=${SEEDS:-0 1 2}
linears='(q|k|v|o|gate|up|down)_proj'

# 300 texts that the model writes; two thirds to calibrate on, the rest held out
if [ ! -f "$work/own.eval.jsonl" ]; then
    "$wsurg" generate "$model" --prompt '' --samples 300 --max-tokens 400 --temperature 1 --seed 7 \
        -q >"$work/own.jsonl"
    head -n 200 "$work/own.jsonl" >"$work/own.train.jsonl"
    tail -n 100 "$work/own.jsonl" >"$work/own.eval.jsonl"
fi
echo "own text: $(bytes_of "$work/own.jsonl") bytes of JSONL" >&2

loss() { # MODEL: both losses
    "$wsurg" eval "$1" --data es="$eval" --data own="$work/own.eval.jsonl" --window 128 --limit 8000 \
        --json | grep -oE '"loss":[0-9.]+' | head -n 2 | cut -d: -f2 | tr '\n' ' '
}

split() { # NAME OPTION...: residual and adapter
    local out=$work/$1
    shift
    [ -d "$out" ] || "$wsurg" decompose "$model" "$@" --rank $rank -o "$out" -q
}

cov() { # NAME DATA
    [ -f "$work/$1.st" ] || "$wsurg" calibrate "$model" --data "$2" --samples 200 -o "$work/$1.st" -q
}

tuned() { # NAME SEED: train, fold, both losses
    local name=$1 seed=$2 out=$work/$1-$2 base=$work/$1/residual
    local options=(--data "$train" --steps "$steps" --seq 128 --batch 8 --lr "$rate" --warmup 20
        --schedule cosine --seed "$seed" -q)
    if [ "$name" = lora ]; then
        base=$model
        [ -d "$out" ] || "$wsurg" tune "$base" --lora --rank $rank --lora-alpha $rank \
            --target "$linears" "${options[@]}" -o "$out"
        [ -d "$out.folded" ] || "$wsurg" lora fold "$base" "$out" -o "$out.folded" -q
    else
        [ -d "$out" ] || "$wsurg" tune "$base" --adapter "$work/$name/adapter" "${options[@]}" -o "$out"
        [ -d "$out.folded" ] || "$wsurg" lora fold "$base" "$out" -o "$out.folded" -q
    fi
    loss "$out.folded"
}

cov own "$work/own.train.jsonl"
cov es "$train"
split pissa --pissa
split ipm --corda --cov "$work/es.st" --mode ipm
split kpm --corda --cov "$work/own.st" --mode kpm
machine
echo "| | Spanish, per seed | mean | own text, per seed | mean |"
echo "|---|---|---|---|---|"
read -r a b <<<"$(loss "$model")"
echo "| before | | $a | | $b |"
for name in lora pissa ipm kpm; do
    new='' own=''
    for seed in $seeds; do
        read -r a b <<<"$(tuned $name "$seed")"
        new+="$a " own+="$b "
    done
    mean() { tr ' ' '\n' <<<"$1" | awk 'NF { s += $1; n++ } END { printf "%.3f", s / n }'; }
    echo "| $name | $new| $(mean "$new") | $own| $(mean "$own") |"
done
