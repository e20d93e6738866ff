#!/usr/bin/env bash
# decompose.sh - CorDA per layer against PEFT's pipeline in PyTorch float32, and extraction
#
#     decompose.sh [--work FOLDER] [--error SIZE]... [ROWSxCOLS...]
#
# Needs BUILD (build), and PYTHON, an interpreter with torch and numpy. One thread per
# layer on both sides, and processor seconds per layer: with a layer on every core that is
# what a layer costs, and other load on the machine counts for neither. Sizes named by
# --error are also compared with a decomposition in float64, which takes as long as the
# rest.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build} python=${PYTHON:-python3} work= errors=' '
while [ $# -gt 0 ]; do
    case $1 in
    --work) work=$2 && shift 2 ;;
    --error) errors+="$2 " && shift 2 ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || set -- 1024x1024 2048x2048 4096x4096 4096x11008
. tests/bench/lib.sh
[ -n "$work" ] || { work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT; }
ninja -C "$build" tests/bench/split >&2
machine
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
rank=128
peer() { "$python" tests/bench/decompose_peer.py "$@"; }
split() { "$build/tests/bench/split" "$@"; }
word() { grep -oE "\"$2\": [^,}]+" <<<"$1" | cut -d' ' -f2; }

echo "| layer | reference | IPM | KPM | IPM fast | ratio IPM | KPM | fast |"
echo "|---|---|---|---|---|---|---|---|"
table=
for size; do
    m=${size%x*} n=${size#*x} dir=$work/$size
    mkdir -p "$dir"
    [ -f "$dir/C.f32" ] || peer make "$m" "$n" "$dir"
    ipm=$(split "$dir/W.f32" "$dir/C.f32" "$m" "$n" $rank ipm exact 1 1 "$dir/ipm.f64")
    kpm=$(split "$dir/W.f32" "$dir/C.f32" "$m" "$n" $rank kpm exact 1 1 "$dir/kpm.f64")
    fast=$(split "$dir/W.f32" "$dir/C.f32" "$m" "$n" $rank ipm fast 1 1 "$dir/fast.f64")
    ref=$(peer corda "$m" "$n" $rank "$dir")
    r=$(word "$ref" cpu) a=$(word "$ipm" cpu) b=$(word "$kpm" cpu) c=$(word "$fast" cpu)
    echo "| $size | $r | $a | $b | $c | $(ratio "$r" "$a") | $(ratio "$r" "$b") | $(ratio "$r" "$c") |"
    [[ $errors == *" $size "* ]] || continue
    peer exact "$m" "$n" $rank "$dir"
    for mode in ipm kpm; do
        table+="| $size | $mode | $(peer error "$m" "$n" $rank $mode "$dir/reference-$mode.f64" "$dir")"
        table+=" | $(peer error "$m" "$n" $rank $mode "$dir/$mode.f64" "$dir") |"$'\n'
    done
done
if [ -n "$table" ]; then
    printf '\nError of B A against float64:\n\n| layer | mode | reference | wsurg |\n|---|---|---|---|\n%s' "$table"
fi
