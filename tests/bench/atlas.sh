#!/usr/bin/env bash
# atlas.sh - learned coefficients beside merges whose one or two numbers are searched
#
#   tests/bench/atlas.sh samples FOLDER [WORK_FOLDER]   stories260k and its three fine-tunes
#   tests/bench/atlas.sh skills FOLDER [WORK_FOLDER]    the example base and FOLDER/SKILL, which
#                                     `examples/models/make.sh --skills WSURG FOLDER` makes
#     WSURG=build/wsurg  SEEDS="0 1 2"  STEPS=120  PARTITIONS=8
#
# Every method sees the same held-out text of all tasks: the searches choose by its mean loss,
# aTLAS learns on it. What is reported is other held-out text: mean over tasks of the loss per
# token and of the share of tokens that are the likeliest (skills: of the answers alone).
# Results are kept in WORK_FOLDER, so that a run that was broken off goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
wsurg=$(realpath "${WSURG:-build/wsurg}")
seeds=${SEEDS:-0 1 2} steps=${STEPS:-120} parts=${PARTITIONS:-8}
[ $# -ge 2 ] || { sed -n '2,8p' "$0" && exit 2; }
what=$1 from=$(realpath "$2")
work=${3:-}
[ -n "$work" ] || { work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT; }
mkdir -p "$work"
. tests/bench/lib.sh
models=() tasks=() options=()
scales='0.1 0.2 0.3 0.4 0.5 0.6 0.8 1 1.3 1.7'

case $what in
samples)
    base=$from/stories260k batch=4 seq=256 rate=0.03
    for task in es kjv sums; do
        tasks+=("$task") models+=("$from/stories260k-$task.safetensors")
        [ -f "$work/$task.test.txt" ] || {
            head -c 20000 "$from/text/$task.eval.txt" >"$work/$task.learn.txt"
            tail -c +20001 "$from/text/$task.eval.txt" >"$work/$task.test.txt"
        }
    done
    end=txt options=(--companions-from "$base")
    ;;
skills)
    base=$PWD/examples/models/base batch=4 seq=64 rate=0.05
    for task in sum sub sort reverse roman brackets lookup count max shift; do
        tasks+=("$task") models+=("$from/$task")
        [ -f "$work/$task.test.jsonl" ] || {
            python3 examples/models/skills.py --skill $task --split train --seed 900 \
                --count 200 --jsonl >"$work/$task.learn.jsonl"
            python3 examples/models/skills.py --skill $task --split eval --seed 901 \
                --count 200 --jsonl >"$work/$task.test.jsonl"
        }
    done
    end=jsonl
    ;;
*) sed -n '2,8p' "$0" && exit 2 ;;
esac

data() { # SPLIT: the options that name it
    local task
    for task in "${tasks[@]}"; do
        printf -- '--data\n%s=%s\n' "$task" "$work/$task.$1.$end"
    done
}
mapfile -t learn_data < <(data learn)
mapfile -t test_data < <(data test)

score() { # MODEL learn|test: mean loss and accuracy over the tasks, then the loss of each
    local -n named=$2_data
    "$wsurg" eval "$1" "${named[@]}" --window 256 -q "${options[@]}" |
        awk '$4 ~ /^[0-9.]+$/ && $8 ~ /^[0-9.]+$/ { n++; l += $4; a += $8; each = each " " $4 }
            END { if (!n) exit 1; printf "%.4f %.4f%s\n", l / n, a / n, each }'
}

# try NAME OPTION...: one candidate; its learning-split loss goes to NAME.tried with the options
try() {
    local name=$1 got
    shift
    ! grep -qF -- " $* " "$work/$name.tried" 2>/dev/null || return 0
    "$wsurg" merge --base "$base" "${models[@]}" "$@" -q --force -o "$work/candidate" >&2
    got=$(score "$work/candidate" learn)
    echo "${got%% *} $* " >>"$work/$name.tried"
}

# row LABEL MODEL: a line of the table
row() {
    local got
    [ -f "$work/$1.score" ] || score "$2" test >"$work/$1.score"
    read -r -a got <"$work/$1.score"
    echo "| $1 | ${got[0]} | $(awk -v a="${got[1]}" 'BEGIN { printf "%.1f", 100 * a }') |"
}

# best NAME LABEL: the candidate of the lowest loss, on the other split
best() {
    local chosen
    read -r _ chosen < <(sort -g "$work/$1.tried" | head -n 1)
    # shellcheck disable=SC2086 # they are words
    "$wsurg" merge --base "$base" "${models[@]}" $chosen -q --force -o "$work/best" >&2
    row "$2" "$work/best" | sed "s@^| $2@& ($(sed 's/--method //; s/--set //g' <<<"$chosen"))@"
}

# learned NAME LABEL OPTION...: mean and spread over the seeds
learned() {
    local name=$1 label=$2 seed
    shift 2
    for seed in $seeds; do
        [ -f "$work/$name-$seed.score" ] && continue
        "$wsurg" learn --atlas "$base" "${models[@]}" "${learn_data[@]}" --seq $seq --batch $batch \
            --steps "$steps" --lr $rate --schedule cosine --seed "$seed" --val-tokens 0 "$@" \
            --progress none --force -o "$work/$name-$seed.json" --json="$work/$name-$seed.log" \
            --bake "$work/$name-$seed" "${options[@]}" >&2
        score "$work/$name-$seed" test >"$work/$name-$seed.score"
    done
    awk -v label="$label" '{ n++; l += $1; ll += $1 * $1; a += $2; aa += $2 * $2 }
        function sd(s, q) { return n > 1 ? sqrt((q - s * s / n > 0 ? q - s * s / n : 0) / (n - 1)) : 0 }
        END { printf "| %s | %.4f +- %.4f | %.1f +- %.1f |\n", label, l / n, sd(l, ll),
              100 * a / n, 100 * sd(a, aa) }' $(for s in $seeds; do echo "$work/$name-$s.score"; done)
}

for scale in $scales 0.05 0.15 0.25 0.35 0.7 0.9; do
    try arithmetic --method task_arithmetic --set lambda="$scale"
done
for scale in $scales; do
    for density in 0.15 0.85; do
        try breadcrumbs --method breadcrumbs --set scope=row --set density=$density --set lambda="$scale"
    done
    for density in 0.2 0.5; do
        try ties --method ties --set density=$density --set lambda="$scale"
    done
    try lines-arithmetic --method task_arithmetic --lines auto,"$scale"
    try lines-breadcrumbs --method breadcrumbs --set scope=row --set density=0.85 --lines auto,"$scale"
    try lines-ties --method ties --set density=0.2 --lines auto,"$scale"
done
machine
echo '| model | loss, mean over tasks | accuracy, % |'
echo '|---|--:|--:|'
row base "$base"
for i in "${!tasks[@]}"; do
    row "tuned on ${tasks[i]}" "${models[i]}"
done
best arithmetic 'task arithmetic'
best breadcrumbs Breadcrumbs
best ties TIES
best lines-arithmetic 'LiNeS, task arithmetic'
best lines-breadcrumbs 'LiNeS, Breadcrumbs'
best lines-ties 'LiNeS, TIES'
learned atlas aTLAS
learned atlas-k "aTLAS x $parts" --partitions "$parts"
