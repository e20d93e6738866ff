#!/usr/bin/env bash
# tune.sh - a step of training against PyTorch on the same weights
#
#   tests/bench/tune.sh [OPTION]... [BUILD_FOLDER]
#     --shapes LIST    comma-separated                                  [gpt2,qwen2]
#     --rows N         tokens of one step                               [512]
#     --steps N        the median but the first of them counts          [4]
#     --threads N                                                       [all]
#     --rounds N       ours and PyTorch's in turn, the median counts    [3]
#     --models FOLDER  where the made-up models are kept                [a scratch folder]
#     --write FILE     the table into FILE too
#   PYTHON=...         with torch, transformers and peft                [python3]
#
# Shapes of GPT-2 124M and Qwen2.5-0.5B, random weights. full: AdamW on every tensor, from
# float32 weights. lora: rank 16 on every linear, from BF16 weights. PyTorch computes in
# float32, eager and SDPA; its native BF16 is shown beside. The share is that of the rate of
# one large product, by processor time. OPENBLAS_CORETYPE is unset for both.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/setup.sh
unset OPENBLAS_CORETYPE

shapes=gpt2,qwen2 rows=512 steps=4 rounds=3 threads=$(nproc) models= write= build=build
while [ $# -gt 0 ]; do
    case $1 in
    --shapes) shapes=$2 && shift ;;
    --rows) rows=$2 && shift ;;
    --steps) steps=$2 && shift ;;
    --threads) threads=$2 && shift ;;
    --rounds) rounds=$2 && shift ;;
    --models) models=$2 && shift ;;
    --write) write=$2 && shift ;;
    -*) die "unknown option '$1': $(sed -n '4,13p' "$0")" ;;
    *) build=$1 ;;
    esac
    shift
done
step=$build/tests/bench/tunestep
[ -x "$step" ] || die "no program at '$step'"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
models=${models:-$work}
. tests/bench/lib.sh

# each FILE KEY: the numbers under that key, a line each round
each() { grep -oE "\"$2\": ?[0-9.]+" "$1" | grep -oE '[0-9.]+$'; }

# middle FILE KEY: their median
middle() { each "$1" "$2" | xargs bash -c '. tests/bench/lib.sh && median "$@"' -; }

# row SHAPE WHAT NAME: a row of the table from the file of that name; the first is ours
row() {
    local file=$work/$1.$2.$3 share=
    if [ "$3" = wsurg ]; then
        share=$(awk -v g="$(middle "$file" gflop)" -v c="$(middle "$file" cpu_seconds)" \
            -v r="$(middle "$file" gemm_rate)" 'BEGIN { printf "%.0f %%", 100 * g / c / r }')
    fi
    awk -v n="$rows" -v s="$(middle "$file" seconds)" -v c="$(middle "$file" cpu_seconds)" \
        -v m="$(middle "$file" peak_bytes)" -v h="| $1 | $2 | $3 |" -v share="$share" \
        'BEGIN { printf "%s %.1f | %.1f | %.2f | %s |\n", h, n / s, n / c, m / 1e9, share }'
}

# against SHAPE WHAT: the median over the rounds of our share of the better of PyTorch's two
# in float32, each round by itself
against() {
    local file=$work/$1.$2 key line="| $1 | $2 |"
    for key in seconds cpu_seconds peak_bytes; do
        line+=" $(paste <(each "$file.wsurg" $key) <(each "$file.sdpa" $key) <(each "$file.eager" $key) |
            awk '{ print $1 / ($2 < $3 ? $2 : $3) }' | sort -g |
            awk -v key=$key '{ v[NR] = $1 }
                END { m = (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2
                      if (key == "peak_bytes") printf "%.0f %%", 100 * m; else printf "%.2f", 1 / m }') |"
    done
    echo "$line"
}

table() {
    machine
    echo "$rows tokens, $threads threads, medians of $rounds rounds of $steps steps"
    echo
    echo '| shape | what | program | tokens/s | tokens per processor second | peak GB | of the rate of products |'
    echo '|---|---|---|--:|--:|--:|--:|'
    local shape what name
    for shape in ${shapes//,/ }; do
        for what in full lora; do
            for name in wsurg sdpa eager bf16; do
                row "$shape" "$what" "$name"
            done
        done
    done
    echo
    echo '| shape | what | times the tokens/s of PyTorch | by processor time | of its memory |'
    echo '|---|---|--:|--:|--:|'
    for shape in ${shapes//,/ }; do
        for what in full lora; do
            against "$shape" "$what"
        done
    done
}

python=${PYTHON:-python3}
for shape in ${shapes//,/ }; do
    for what in full lora; do
        dtype=float32
        [ "$what" = full ] || dtype=bfloat16
        model=$models/$shape-$dtype
        [ -d "$model" ] || "$python" tests/bench/mkmodel.py "$shape" "$dtype" "$model"
        for ((i = 0; i < rounds; i++)); do
            "$step" "$model" "$what" "$rows" "$steps" "$threads" >>"$work/$shape.$what.wsurg"
            for kind in "sdpa sdpa float32" "eager eager float32" "bf16 sdpa bfloat16"; do
                read -r name attention arithmetic <<<"$kind"
                "$python" tests/bench/tune_peer.py "$model" "$what" "$rows" "$steps" "$threads" \
                    "$attention" "$arithmetic" >>"$work/$shape.$what.$name"
            done
        done
    done
done
table | tee ${write:+"$write"}
