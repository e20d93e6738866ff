#!/usr/bin/env bash
# masks.sh - what learned and chosen masks are good for, on the example models
#
#     masks.sh [--work FOLDER] safety|compose
#
# safety: a model that refuses marked prompts (SFT, then DPO on pairs), broken by
# fine-tuning on a task beside which marked prompts are answered, realigned (SOMF), and,
# as the baseline, fine-tuned on the same pairs again.
# compose: two tasks, each a sparse vector of LT-SFT; their composition beside the sum of
# full fine-tunes, whole and cut to as many entries.
# WSURG names the program; python3 makes the data.
set -euo pipefail
cd "$(dirname "$0")/../.."
wsurg=${WSURG:-build/wsurg} work=
[ "${1-}" != --work ] || { work=$2 && shift 2; }
[ $# -eq 1 ] || { sed -n '2,12p' "$0" && exit 2; }
. tests/bench/lib.sh
[ -n "$work" ] || { work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT; }
mkdir -p "$work"
base=examples/models/base
[ -f "$work/sort.eval.jsonl" ] || python3 tests/bench/masks_data.py "$work"

# tune OUT MODEL OPTION...: full, unless it is there
tune() {
    local out=$work/$1 model=$2
    shift 2
    [ -d "$out" ] || "$wsurg" tune "$model" --full --batch 16 --seq 64 --schedule cosine --warmup 0.05 \
        "$@" -o "$out" -q
}

# row NAME MODEL: refusals, answers, loss and right tokens of the task
row() {
    "$wsurg" eval "$2" --data roman="$work/roman.eval.jsonl" --data marked="$work/marked.quiz.jsonl" \
        --data plain="$work/plain.quiz.jsonl" -q >"$work/eval.txt"
    awk -v name="$1" '$2 == "roman" { loss = $4; right = $8 }
        $2 == "marked" { refused = $4 } $2 == "plain" { answered = $4 }
        END { printf "| %s | %.1f | %.1f | %.4f | %.1f |\n", name, 100 * refused, 100 * answered,
            loss, 100 * right }' "$work/eval.txt"
}

safety() {
    tune sft "$base" --data "$work/refuse.jsonl" --data "$work/plain.jsonl" --steps 60 --lr 3e-4
    tune aligned "$work/sft" --data "$work/pairs.jsonl" --loss dpo --steps 60 --lr 2e-4
    tune broken "$work/aligned" --data "$work/roman.jsonl" --data "$work/comply.jsonl" --steps 120 --lr 5e-4
    tune again "$work/broken" --data "$work/pairs.jsonl" --loss dpo --steps 100 --lr 2e-4
    echo '| | refused, % | answered, % | task loss | right, % |'
    echo '|---|---|---|---|---|'
    row aligned "$work/aligned"
    row broken "$work/broken"
    for options in soft:0.05 soft:0.1 soft:0.2 threshold:0.05 threshold:0.1 threshold:0.2; do
        kind=${options%:*} rate=${options#*:}
        out=$work/realigned-$kind-$rate
        [ -d "$out" ] || "$wsurg" realign "$work/aligned" "$work/broken" --pairs "$work/pairs.jsonl" \
            --mask "$kind" --lr "$rate" --steps "${STEPS:-200}" -o "$out" -q
        row "realigned, $kind, rate $rate" "$out"
    done
    row 'safety fine-tuning' "$work/again"
}

# entries VECTOR: of the update that are not 0
entries() {
    "$wsurg" taskvec stats "$1" --json | sed -E 's/.*"elements":([0-9]+),"density":([0-9.e-]+).*/\1 \2/' |
        awk '{ printf "%.0f", $1 * $2 }'
}

# both NAME VECTOR VECTOR: losses and right tokens of both tasks on the composition
both() {
    "$wsurg" taskvec combine "$work/$2" "$work/$3" -o "$work/both.st" --force -q
    "$wsurg" taskvec apply "$base" "$work/both.st" -o "$work/both/" --force -q
    "$wsurg" eval "$work/both" --data sum="$work/sum.eval.jsonl" --data roman="$work/roman.eval.jsonl" \
        -q >"$work/eval.txt"
    awk -v name="$1" -v n="$(($(entries "$work/$2") + $(entries "$work/$3")))" '
        $2 == "sum" { a = $4; x = $8 } $2 == "roman" { b = $4; y = $8 }
        END { printf "| %s | %d | %.4f | %.4f | %.4f | %.1f | %.1f |\n", name, n, a, b, (a + b) / 2,
            100 * x, 100 * y }' "$work/eval.txt"
}

compose() {
    local share=${SHARE:-0.05} steps=${STEPS:-150} task
    for task in sum roman; do
        tune "dense-$task" "$base" --data "$work/$task.jsonl" --steps "$steps" --lr 3e-4
        tune "long-$task" "$base" --data "$work/$task.jsonl" --steps $((2 * steps)) --lr 3e-4
        [ -f "$work/$task.mask.st" ] || "$wsurg" mask lt-sft "$base" "$work/dense-$task" --share "$share" \
            --freeze "${FREEZE:-norm|embed}" -o "$work/$task.mask.st" -q
        tune "sparse-$task" "$base" --data "$work/$task.jsonl" --mask "$work/$task.mask.st" \
            --steps "$steps" --lr "${RATE:-1e-3}"
        [ -d "$work/cut-$task" ] || "$wsurg" mask apply "$base" "$work/dense-$task" \
            "$work/$task.mask.st" -o "$work/cut-$task/" -q
        for kind in dense long sparse cut; do
            "$wsurg" taskvec extract "$base" "$work/$kind-$task" -o "$work/$kind-$task.st" --force -q
        done
    done
    "$wsurg" mask stats "$work/sum.mask.st" "$work/roman.mask.st" | tail -n 1 >&2
    echo '| sum of | entries | sum: loss | roman: loss | mean | sum: right, % | roman: right, % |'
    echo '|---|---|---|---|---|---|---|'
    both 'LT-SFT vectors' sparse-sum.st sparse-roman.st
    both 'full fine-tunes, the same entries' cut-sum.st cut-roman.st
    both 'full fine-tunes, whole' dense-sum.st dense-roman.st
    both 'full fine-tunes of as many steps as both phases' long-sum.st long-roman.st
}

machine
case $1 in
safety | compose) "$1" ;;
*) echo "masks.sh: safety or compose, not '$1'" >&2 && exit 2 ;;
esac
