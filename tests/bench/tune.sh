#!/usr/bin/env bash
# tune.sh - a step of training against PyTorch on the same weights
#
#   tests/bench/tune.sh [OPTION]... [BUILD_FOLDER]
#     --shapes LIST    comma-separated                                  [gpt2,qwen2]
#     --rows N         tokens of one step                               [512]
#     --steps N        the best of them counts                          [4]
#     --threads N                                                       [all]
#     --rounds N       ours and PyTorch's in turn, the best counts      [2]
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

shapes=gpt2,qwen2 rows=512 steps=4 rounds=2 threads=$(nproc) models= write= build=build
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

# best FILE KEY: the least number under that key in the file's lines
best() { grep -oE "\"$2\": ?[0-9.]+" "$1" | grep -oE '[0-9.]+$' | sort -g | head -n 1; }

# row SHAPE WHAT NAME: a row of the table from the file of that name; the first is ours
row() {
    local file=$work/$1.$2.$3 share=
    if [ "$3" = wsurg ]; then
        share=$(awk -v g="$(best "$file" gflop)" -v c="$(best "$file" cpu_seconds)" \
            -v r="$(best "$file" gemm_rate)" 'BEGIN { printf "%.0f %%", 100 * g / c / r }')
    fi
    awk -v n="$rows" -v s="$(best "$file" seconds)" -v c="$(best "$file" cpu_seconds)" \
        -v m="$(best "$file" peak_bytes)" -v h="| $1 | $2 | $3 |" -v share="$share" \
        'BEGIN { printf "%s %.1f | %.1f | %.2f | %s |\n", h, n / s, n / c, m / 1e9, share }'
}

# against SHAPE WHAT: our row beside the better of PyTorch's two in float32
against() {
    local file=$work/$1.$2 key ours theirs line="| $1 | $2 |"
    for key in seconds cpu_seconds peak_bytes; do
        ours=$(best "$file.wsurg" $key)
        theirs=$({ best "$file.sdpa" $key && best "$file.eager" $key; } | sort -g | head -n 1)
        case $key in
        peak_bytes) line+=" $(awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.0f %%", 100 * a / b }') |" ;;
        *) line+=" $(ratio "$theirs" "$ours") |" ;;
        esac
    done
    echo "$line"
}

table() {
    machine
    echo "$rows tokens, $threads threads, best of $((steps * rounds)) steps"
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
