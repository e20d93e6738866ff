#!/usr/bin/env bash
# learn.sh - a step of learn with eight task vectors against PyTorch on the same weights
#
#   tests/bench/learn.sh [OPTION]... [BUILD_FOLDER]
#     --shape NAME     small (llama, 26M parameters), gpt2 (124M)         [small]
#     --dtype NAME     of the weights: float32, bfloat16                 [float32]
#     --rows N         rows of a step                                     [2]
#     --length N       tokens of a row                                    [64]
#     --steps N        the best of them counts                            [4]
#     --threads N                                                         [all]
#     --rounds N       ours and PyTorch's in turn, the best counts        [2]
#     --models FOLDER  where the made-up models are kept                  [a scratch folder]
#     --write FILE     the table into FILE too
#   PYTHON=...         with torch, transformers and safetensors           [python3]
#
# A coefficient for each tensor and task vector. PyTorch composes the weights under autograd:
# as the authors of aTLAS write it (sum), and with one product per tensor (stacked); task
# vectors in float32, and in bfloat16. Ours runs within half of the least peak that PyTorch
# took, beside a limit that lets it keep all models in memory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/setup.sh
unset OPENBLAS_CORETYPE

shape=small dtype=float32 rows=2 length=64 steps=4 rounds=2 threads=$(nproc) models= write=
build=build
while [ $# -gt 0 ]; do
    case $1 in
    --shape) shape=$2 && shift ;;
    --dtype) dtype=$2 && shift ;;
    --rows) rows=$2 && shift ;;
    --length) length=$2 && shift ;;
    --steps) steps=$2 && shift ;;
    --threads) threads=$2 && shift ;;
    --rounds) rounds=$2 && shift ;;
    --models) models=$2 && shift ;;
    --write) write=$2 && shift ;;
    -*) die "unknown option '$1': $(sed -n '4,14p' "$0")" ;;
    *) build=$1 ;;
    esac
    shift
done
step=$build/tests/bench/learnstep
[ -x "$step" ] || die "no program at '$step'"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
models=${models:-$work}
python=${PYTHON:-python3}
. tests/bench/lib.sh

base=$models/learn-$shape-$dtype
[ -d "$base" ] || "$python" tests/bench/mkmodel.py "$shape" "$dtype" "$base" 8
tunes=("$base"-{1..8})

# best FILE KEY, most FILE KEY: the least and the largest number under that key
best() { grep -oE "\"$2\": ?[0-9.]+" "$1" | grep -oE '[0-9.]+$' | sort -g | head -n 1; }
most() { grep -oE "\"$2\": ?[0-9.]+" "$1" | grep -oE '[0-9.]+$' | sort -g | tail -n 1; }

ours() { # NAME MEBIBYTES
    "$step" "$base" "${tunes[@]}" -- "$rows" "$length" "$steps" "$threads" "$2" >>"$work/$1"
}

peers='sum.float32 sum.bfloat16 stacked.float32 stacked.bfloat16'
limit=
for ((i = 0; i < rounds; i++)); do
    for peer in $peers; do
        "$python" tests/bench/learn_peer.py "$base" "${tunes[@]}" -- "$rows" "$length" "$steps" \
            "$threads" "${peer%.*}" "${peer#*.}" >>"$work/$peer"
    done
    [ -n "$limit" ] || for peer in $peers; do
        peak=$(($(most "$work/$peer" peak_bytes) >> 21))
        [ -n "$limit" ] && [ "$limit" -le "$peak" ] || limit=$peak
    done
    # what the limit bounds is memory that is not of files; the program itself is 20 MiB
    ours half $((limit - 20))
    ours all 1000000
done

row() { # NAME LABEL
    awk -v s="$(best "$work/$1" seconds)" -v c="$(best "$work/$1" cpu_seconds)" \
        -v m="$(most "$work/$1" peak_bytes)" -v s0="$(best "$work/half" seconds)" \
        -v c0="$(best "$work/half" cpu_seconds)" -v m0="$(most "$work/half" peak_bytes)" -v h="$2" \
        'BEGIN { printf "| %s | %.3f | %.3f | %.0f | %.1f | %.1f | %.2f |\n", h, s, c, m / 1048576,
                 s / s0, c / c0, m0 / m }'
}

table() {
    machine
    echo "$shape, $dtype, 8 task vectors, $rows rows of $length tokens, $threads threads, best of" \
        "$((steps * rounds)) steps"
    echo
    echo '| program | s per step | processor s | peak MiB | its time over ours | processor | our peak over its |'
    echo '|---|--:|--:|--:|--:|--:|--:|'
    row half 'wsurg, half the memory'
    row all 'wsurg, all in memory'
    for peer in $peers; do
        row "$peer" "PyTorch, ${peer%.*}, ${peer#*.}"
    done
}
table | tee ${write:+"$write"}
