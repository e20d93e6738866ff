#!/usr/bin/env bash
# recipes.sh - one recipe through mergekit and through wsurg, as a user would run both
#
#   MERGEKIT=/venv/bin/mergekit-yaml tests/bench/recipes.sh [OPTION]... [WSURG_BINARY]
#     --recipes LIST   comma-separated   [linear,slerp,ties,dare_ties,della,breadcrumbs,
#                                          model_stock]
#     --rounds N       pairs, the median of the ratios counts   [3]
#     --where FOLDER   of the models and outputs   [build/bench]
#     --keep           leave the made-up models in place
#     --write FILE     the table into FILE too
#
# Models: the shapes of TinyLlama (1.1 billion parameters, BF16), a base and two
# fine-tunes. The same file goes to `mergekit-yaml RECIPE OUT` and to `wsurg merge RECIPE
# OUT`, each with its own defaults, manifest and provenance included. Each round runs one
# after the other on a cold page cache; memory is the peak of the resident set (which
# counts mapped files too) and, for wsurg, the peak that it reports of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/setup.sh

recipes=linear,slerp,ties,dare_ties,della,breadcrumbs,model_stock
rounds=3 D=build/bench keep= write= wsurg=build/wsurg
while [ $# -gt 0 ]; do
    case $1 in
    --recipes) recipes=$2 && shift ;;
    --rounds) rounds=$2 && shift ;;
    --where) D=$2 && shift ;;
    --keep) keep=1 ;;
    --write) write=$2 && shift ;;
    -*) die "unknown option '$1': $(sed -n '4,10p' "$0")" ;;
    *) wsurg=$1 ;;
    esac
    shift
done
[ -x "$wsurg" ] || die "no program at '$wsurg'"
[ -n "${MERGEKIT:-}" ] || die "MERGEKIT=/venv/bin/mergekit-yaml is not set"

work=$(mktemp -d)
made=
cleanup() {
    rm -rf "$work"
    [ -n "$keep" ] || [ -z "$made" ] || rm -rf "$made"
}
trap cleanup EXIT
. tests/bench/lib.sh

# parameters RECIPE: of each fine-tune, as people publish them
parameters() {
    case $1 in
    slerp | model_stock) ;;
    breadcrumbs) echo '    parameters: {weight: 0.5, density: 0.9, gamma: 0.01}' ;;
    linear) echo '    parameters: {weight: 0.5}' ;;
    *) echo '    parameters: {weight: 0.5, density: 0.5}' ;;
    esac
}

recipe() { # RECIPE
    local model models="$D/tune1 $D/tune2"
    echo "merge_method: $1"
    [ "$1" = linear ] || echo "base_model: $D/base"
    echo 'dtype: bfloat16'
    [ "$1" != slerp ] || models="$D/base $D/tune1"
    echo 'models:'
    for model in $models; do
        echo "  - model: $model"
        parameters "$1"
    done
    [ "$1" != slerp ] || cat <<'END'
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
    - {value: 0.5}
END
}

# ready: nothing left of the run before, nothing cached
ready() {
    rm -rf "$work/out"
    sync
    drop_cache "$D"/{base,tune1,tune2}/*.safetensors
}

row() { printf '| %s |\n' "$(IFS='|' && echo "$*" | sed 's/|/ | /g')" | tee -a "$work/table"; }

bench() { # RECIPE
    local i theirs ours a='' b='' ratios='' peaks='' own=0 p rss=0 n=0
    recipe "$1" >"$work/recipe.yml"
    for ((i = 0; i < rounds; i++)); do
        ready
        theirs=$(timed env time -f %M -o "$work/theirs" "$MERGEKIT" "$work/recipe.yml" \
            "$work/out" 2>"$work/said") || die "mergekit: $(tail -n 3 "$work/said")"
        ready
        ours=$(timed env time -f %M -o "$work/ours" "$wsurg" merge "$work/recipe.yml" \
            "$work/out" -qq --json="$work/run.json" 2>"$work/said") ||
            die "wsurg: $(cat "$work/said")"
        a+="$theirs " b+="$ours " ratios+="$(ratio "$theirs" "$ours") "
        p=$(json_number "$work/run.json" peak_memory_bytes) && [ "$p" -le "$own" ] || own=$p
        p=$(tail -n 1 "$work/theirs") && [ "$p" -le "$rss" ] || rss=$p
        p=$(tail -n 1 "$work/ours") && [ "$p" -le "$n" ] || n=$p
    done
    row "$1" "$(median $a)" "$(median $b)" "$(median $ratios)" "$((rss >> 10))" \
        "$((n >> 10))" "$((own >> 20))" "$(ratio "$((rss >> 10))" "$((own >> 20))")"
}

mkdir -p "$D"
D=$(cd "$D" && pwd)
compile_mkllama
if [ ! -f "$D/made" ]; then
    made=$D
    "$work/mkllama" "$D/base" --shard-size 5000000000
    for tune in 1 2; do
        "$work/mkllama" "$D/tune$tune" --shard-size 5000000000 --tune "$tune"
    done
    touch "$D/made"
fi
machine
row recipe 'mergekit s' 'wsurg s' ratio 'mergekit RSS MiB' 'wsurg RSS MiB' 'wsurg own MiB' 'RSS : own'
row --- --: --: --: --: --: --: --:
for name in ${recipes//,/ }; do
    bench "$name"
done
if [ -n "$write" ]; then
    { echo '# Results of tests/bench/recipes.sh' && echo && machine && cat "$work/table"; } \
        >"$write"
fi
