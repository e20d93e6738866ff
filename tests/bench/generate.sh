#!/usr/bin/env bash
# generate.sh - tokens per second of one sequence beside what reading the weights allows
#
#   tests/bench/generate.sh [--layers N] [--tokens N] [--runs N] [--threads N]
#                           [--work DIR] [--write FILE] [WSURG]
#
# A BF16 model in the shape of a 1.1B Llama, N of its layers (8). Every token reads all
# weights but the embedding once: the bound is their bytes over the rate at which as many
# threads read memory. Rates are the best of the runs, in turn.
set -eu
cd "$(dirname "$0")/../.."
layers=8 tokens=32 runs=5 work='' write='' wsurg=build/wsurg threads=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
    --layers) layers=$2 && shift ;;
    --tokens) tokens=$2 && shift ;;
    --runs) runs=$2 && shift ;;
    --work) work=$2 && shift ;;
    --threads) threads=$2 && shift ;;
    --write) write=$2 && shift ;;
    *) wsurg=$1 ;;
    esac
    shift
done
[ -n "$work" ] || { work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT; }
mkdir -p "$work"
. tests/bench/lib.sh
compile_mkllama
"${CC:-cc}" -std=c17 -D_POSIX_C_SOURCE=200809L -O3 -march=native -o "$work/readrate" \
    tests/bench/readrate.c -pthread
model=$work/model-$layers
[ -d "$model" ] || "$work/mkllama" "$model" --shape 1b --layers "$layers"
cp examples/models/base/tokenizer*.json "$model"
hidden=$(json_number "$model/config.json" hidden_size)
vocab=$(json_number "$model/config.json" vocab_size)
weights=$(($(bytes_of "$model"/*.safetensors) - 2 * hidden * vocab))

rate=0 speed=0 wide=0
for _ in $(seq "$runs"); do
    r=$("$work/readrate" "$threads" 512)
    "$wsurg" generate "$model" --prompt 'sum: 1+1 =' --max-tokens "$tokens" -j "$threads" \
        --max-memory 8GiB --json="$work/one.json" -qq >/dev/null
    "$wsurg" generate "$model" --prompt 'sum: 1+1 =' --max-tokens "$tokens" -j "$threads" \
        --samples 16 --temperature 1 --max-memory 8GiB --json="$work/many.json" -qq >/dev/null
    s=$(json_number "$work/one.json" tokens_per_second)
    w=$(json_number "$work/many.json" tokens_per_second)
    rate=$(printf '%s\n' "$rate" "$r" | sort -g | tail -n 1)
    speed=$(printf '%s\n' "$speed" "$s" | sort -g | tail -n 1)
    wide=$(printf '%s\n' "$wide" "$w" | sort -g | tail -n 1)
done
show() {
    machine
    awk -v w="$weights" -v r="$rate" -v s="$speed" -v m="$wide" -v t="$threads" 'BEGIN {
        bound = r * 1e9 / w
        printf "%.0f MB of weights a token, %d threads read %.1f GB/s: bound %.1f tokens/s\n", w / 1e6, t, r, bound
        printf "one sequence  %.1f tokens/s, %.0f %% of the bound\n", s, 100 * s / bound
        printf "16 side by side  %.1f tokens/s\n", m
    }'
}
show | tee ${write:+"$write"}
