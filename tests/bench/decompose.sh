#!/usr/bin/env bash
# decompose.sh - CorDA per layer against PEFT's pipeline in PyTorch float32, and extraction
#
#     decompose.sh [OPTION]... [ROWSxCOLS...]
#
#     --work FOLDER    keep layers and results there; what is there is not made again
#     --prepare        only make the layers, and what --error compares with
#     --error SIZE     errors of B A against a decomposition in float64; repeatable
#     --extract SIZE   rank 64 of that layer against a full decomposition; repeatable
#     --wall           wall seconds per layer, with a layer on every core on both sides;
#                      else processor seconds of one, which other load does not count in
#     --write FILE     the section on decompositions of FILE (tests/bench/RESULTS.md)
#
# Needs BUILD (build), and PYTHON, an interpreter with torch and numpy. One thread per layer
# on both sides. For a quiet machine: --prepare first, then the same words without it.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build} python=${PYTHON:-python3} work= errors=() extracts=() prepare= write=
clock=cpu copies=1 rank=128
while [ $# -gt 0 ]; do
    case $1 in
    --work) work=$2 && shift ;;
    --error) errors+=("$2") && shift ;;
    --extract) extracts+=("$2") && shift ;;
    --write) write=$2 && shift ;;
    --prepare) prepare=1 ;;
    --wall) clock=wall copies=$(nproc) ;;
    -*) sed -n '3,16p' "$0" && exit 2 ;;
    *) break ;;
    esac
    shift
done
[ $# -gt 0 ] || set -- 1024x1024 2048x2048 4096x4096 4096x11008
. tests/bench/lib.sh
[ -n "$work" ] || { work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT; }
[ -n "$prepare" ] || ninja -C "$build" tests/bench/split >&2
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
peer() { "$python" tests/bench/decompose_peer.py "$@"; }
word() { grep -oE "\"$2\": [^,}]+" <<<"$1" | cut -d' ' -f2; }
short() { awk -v x="$1" 'BEGIN { printf x < 10 ? "%.2f" : "%.1f", x }'; }

# rows and cols of SIZE, and its folder with the layer in it
layer() {
    m=${1%x*} n=${1#*x} dir=$work/$1
    mkdir -p "$dir"
    [ -f "$dir/C.f32" ] || peer make "$m" "$n" "$dir"
}

# ours MODE SOLVER OUT: seconds per layer
ours() {
    word "$("$build/tests/bench/split" "$dir/W.f32" "$dir/C.f32" "$m" "$n" "${4:-$rank}" "$1" "$2" \
        $copies $copies "$3")" "${5:-$clock}"
}

# theirs WHAT...: the largest of the processes' seconds, over their number
theirs() {
    local i said
    for i in $(seq $copies); do
        peer "$@" "$dir" >"$dir/said.$i" &
    done
    wait
    said=$(cat "$dir"/said.*)
    rm "$dir"/said.*
    word "$said" $clock | sort -g | tail -n 1 | awk -v n=$copies -v c=$clock '{ print c == "wall" ? $1 / n : $1 }'
}

speeds() {
    local size r a b c
    echo "| layer | reference | IPM | KPM | IPM fast | ratio IPM | KPM | fast |"
    echo "|---|---|---|---|---|---|---|---|"
    for size; do
        layer "$size"
        a=$(ours ipm exact "$dir/ipm.f64") b=$(ours kpm exact "$dir/kpm.f64")
        c=$(ours ipm fast "$dir/fast.f64") r=$(theirs corda "$m" "$n" $rank)
        echo "| $size | $(short "$r") | $(short "$a") | $(short "$b") | $(short "$c") |" \
            "$(short "$(ratio "$r" "$a")") | $(short "$(ratio "$r" "$b")") | $(short "$(ratio "$r" "$c")") |"
    done
}

errors() {
    local size mode
    printf '\nError of B A against float64:\n\n| layer | mode | reference | wsurg |\n|---|---|---|---|\n'
    for size; do
        layer "$size"
        [ -f "$dir/exact.pt" ] || peer exact "$m" "$n" $rank "$dir"
        for mode in ipm kpm; do
            [ -f "$dir/$mode.f64" ] || ours $mode exact "$dir/$mode.f64" >/dev/null
            [ -f "$dir/reference-$mode.f64" ] || theirs corda "$m" "$n" $rank >/dev/null
            echo "| $size | $mode | $(peer error "$m" "$n" $rank $mode "$dir/reference-$mode.f64" "$dir") |" \
                "$(peer error "$m" "$n" $rank $mode "$dir/$mode.f64" "$dir") |"
        done
    done
}

extractions() {
    local size a b said left least
    printf '\nExtraction of rank 64, and a full decomposition in PyTorch float32:\n\n'
    echo "| update | full | wsurg | ratio | left over, beyond the least |"
    echo "|---|---|---|---|---|"
    for size; do
        layer "$size"
        a=$(ours svd exact - 64) left=$(ours svd exact - 64 residual)
        said=$(peer svd "$m" "$n" "$dir")
        b=$(word "$said" $clock) least=$(word "$said" least)
        [ $clock = cpu ] || b=$(theirs svd "$m" "$n")
        echo "| $size | $(short "$b") | $(short "$a") | $(short "$(ratio "$b" "$a")") |" \
            "$(awk -v a="$left" -v b="$least" 'BEGIN { printf "%.3f %%", 100 * (a / b - 1) }') |"
    done
}

section() {
    printf '## Decompositions (`decompose.sh`)\n\n'
    (unset OMP_NUM_THREADS && machine) # nproc would heed it
    if [ $clock = wall ]; then
        echo "Wall seconds per layer with a layer on each of $copies cores on both sides, rank $rank."
    else
        echo "One thread on each side, processor seconds per layer, rank $rank; the machine was shared."
    fi
    "$python" -c 'import torch; print(f"PyTorch {torch.__version__};", end=" ")'
    "$build/wsurg" --version | grep -o 'OpenBLAS [0-9.]*' | head -n 1 || true
    printf '%s\n\n' 'The reference is PEFT'"'"'s pipeline in float32: damping, inverse and its check, W C, full
decomposition, V'"'"' C^-1.'
    speeds "$@"
    [ ${#errors[@]} -eq 0 ] || errors "${errors[@]}"
    [ ${#extracts[@]} -eq 0 ] || extractions "${extracts[@]}"
    echo
}

if [ -n "$prepare" ]; then
    for size in "$@" "${errors[@]}" "${extracts[@]}"; do
        layer "$size"
    done
    for size in "${errors[@]}"; do
        layer "$size"
        [ -f "$dir/exact.pt" ] || peer exact "$m" "$n" $rank "$dir"
    done
    exit
fi
section "$@" | tee "$work/section.md"
if [ -n "$write" ]; then
    # the section up to the next one is replaced; a file without it gets it at its end
    awk -v new="$work/section.md" '
        function put() { while ((getline line < new) > 0) print line; done = 1 }
        /^## / { inside = /^## Decompositions/; if (inside) put() }
        !inside { print }
        END { if (!done) put() }' "$write" >"$work/results.md"
    cp "$work/results.md" "$write"
fi
