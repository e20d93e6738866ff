#!/usr/bin/env bash
# merge.sh - a merge against the floor: reading the inputs and writing one of them
#
#   tests/bench/merge.sh [OPTION]... [WSURG_BINARY]
#     --where memory|disk|both   /dev/shm, or DISK (default: build/bench)      [both]
#     --methods LIST             comma-separated, or all    [linear,task_arithmetic,
#                                                            breadcrumbs,ties]
#     --rounds N                 pairs of floor and merge, the median counts   [7]
#     --manifest none|default|both                                            [both]
#     --floor                    the floor alone
#     --keep                     leave the made-up models in place
#     --write FILE               the table into FILE too (tests/bench/RESULTS.md)
#   MERGEKIT=/venv/bin/mergekit-yaml   time it on the same files, MERGEKIT_ROUNDS times [1]
#   DISK=FOLDER                        where "disk" is
#
# Inputs: the shapes of TinyLlama (1.1 billion parameters, BF16), a base and two
# fine-tunes, 6.6 GB in, 2.2 GB out. Floor: `cat` of the inputs to /dev/null, then
# `dd conv=fsync` of the base. On disk the page cache is dropped before each. Each round
# times the floor and then wsurg; the ratio is taken within the round.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/setup.sh

where=both methods=linear,task_arithmetic,breadcrumbs,ties rounds=7 manifests=both
floor_only= keep= write= wsurg=build/wsurg
while [ $# -gt 0 ]; do
    case $1 in
    --where) where=$2 && shift ;;
    --methods) methods=$2 && shift ;;
    --rounds) rounds=$2 && shift ;;
    --manifest) manifests=$2 && shift ;;
    --floor) floor_only=1 ;;
    --keep) keep=1 ;;
    --write) write=$2 && shift ;;
    -*) die "unknown option '$1': $(sed -n '4,14p' "$0")" ;;
    *) wsurg=$1 ;;
    esac
    shift
done
[ -n "$floor_only" ] || [ -x "$wsurg" ] || die "no program at '$wsurg'"
if [ "$methods" = all ]; then
    methods=linear,slerp,task_arithmetic,ties,dare_linear,dare_ties,breadcrumbs
    methods+=,breadcrumbs_ties,della,della_linear,model_stock,passthrough
fi
case $where in both) where='memory disk' ;; esac
case $manifests in both) manifests='none default' ;; esac

work=$(mktemp -d)
made=()
cleanup() {
    rm -rf "$work"
    [ -n "$keep" ] || [ ${#made[@]} -eq 0 ] || rm -rf "${made[@]}"
}
trap cleanup EXIT

. tests/bench/lib.sh

# per_second SECONDS: GB/s of what is read and written, three digits
per_second() { awk -v s="$1" -v b="$BYTES" 'BEGIN { printf "%.2f", b / s / 1e9 }'; }

# ready PLACE FOLDER...: a fair start: no output, nothing dirty, on disk nothing cached
ready() {
    rm -rf "$D/out" "$D/floor"
    sync
    [ "$1" = memory ] || drop_cache "$D"/{base,tune1,tune2}/*.safetensors
}

floor_run() {
    cat "$D"/{base,tune1,tune2}/*.safetensors >/dev/null
    dd if="$(echo "$D"/base/*.safetensors)" of="$D/floor" bs=4M conv=fsync status=none
}

# models METHOD: the models as that method takes them
models() {
    case $1 in
    linear | passthrough) echo "$D/tune1 $D/tune2" ;;
    *) echo "$D/base $D/tune1 $D/tune2" ;;
    esac
}

# wsurg_run METHOD MANIFEST
wsurg_run() {
    local list extra=()
    read -ra list <<<"$(models "$1")"
    case $1 in
    linear) list=("$D/base" "${list[@]}") ;; # all three count alike: 6.6 GB are read
    slerp) list=("$D/base" "$D/tune1") ;;
    passthrough) list=("$D/tune1") ;;
    esac
    [ "$2" = default ] || extra=(--manifest none)
    "$wsurg" merge "${list[@]}" --method "$1" "${extra[@]}" -qq --json="$work/run.json" \
        -o "$D/out/" >/dev/null
}

mergekit_config() { # METHOD
    local model
    echo "merge_method: $1"
    echo "dtype: bfloat16"
    [ "$1" = linear ] || echo "base_model: $D/base"
    echo "models:"
    for model in "$D/base" "$D/tune1" "$D/tune2"; do
        [ "$1" = linear ] || [ "$model" != "$D/base" ] || continue
        printf '  - model: %s\n    parameters: {weight: 1.0' "$model"
        case $1 in
        breadcrumbs*) printf ', density: 0.15, gamma: 0.006' ;;
        ties) printf ', density: 0.2' ;;
        esac
        echo '}'
    done
}

mergekit_run() { # METHOD
    mergekit_config "$1" >"$work/config.yml"
    "$MERGEKIT" "$work/config.yml" "$D/out" --no-copy-tokenizer >"$work/mergekit.log" 2>&1
}

row() { printf '| %s |\n' "$(IFS='|' && echo "$*" | sed 's/|/ | /g')" | tee -a "$work/table"; }

# bench_method PLACE METHOD MANIFEST: rounds of floor and merge
bench_method() {
    local i f s floors='' times='' ratios='' peak=0 p
    for ((i = 0; i < rounds; i++)); do
        ready "$1"
        f=$(timed floor_run)
        ready "$1"
        s=$(timed wsurg_run "$2" "$3")
        p=$(json_number "$work/run.json" peak_memory_bytes)
        [ "${p:-0}" -le "$peak" ] || peak=$p
        floors+="$f " times+="$s " ratios+="$(ratio "$s" "$f") "
    done
    f=$(median $floors) s=$(median $times)
    row "$1" "$2" "$3" "$f" "$s" "$(per_second "$s")" "$(median $ratios)" \
        "$((peak >> 20))"
}

bench_mergekit() { # PLACE METHOD
    local i s times=''
    for ((i = 0; i < ${MERGEKIT_ROUNDS:-1}; i++)); do
        ready "$1"
        s=$(timed mergekit_run "$2") || die "mergekit: $(tail -n 3 "$work/mergekit.log")"
        times+="$s "
    done
    s=$(median $times)
    row "$1" "mergekit $2" "-" "-" "$s" "$(per_second "$s")" "-" "-"
}

bench_floor() { # PLACE
    local i floors=''
    for ((i = 0; i < rounds; i++)); do
        ready "$1"
        floors+="$(timed floor_run) "
    done
    say "$1: floor of each round: $floors"
    row "$1" floor - "$(median $floors)" - "$(per_second "$(median $floors)")" 1 -
}

bench_place() { # PLACE
    local method manifest
    case $1 in
    memory) D=/dev/shm/wsurg-bench ;;
    disk) D=${DISK:-build/bench} ;;
    *) die "unknown place '$1'" ;;
    esac
    mkdir -p "$D"
    D=$(cd "$D" && pwd)
    made+=("$D")
    make_models "$D"
    BYTES=$(bytes_of "$D"/{base,tune1,tune2,base}/*.safetensors)
    if [ -n "$floor_only" ]; then
        bench_floor "$1"
        return
    fi
    for method in ${methods//,/ }; do
        for manifest in $manifests; do
            bench_method "$1" "$method" "$manifest"
        done
        [ -z "${MERGEKIT:-}" ] || bench_mergekit "$1" "$method"
    done
}

# make_models FOLDER: base and two fine-tunes, unless they stand there already
make_models() {
    local tune
    compile_mkllama
    [ ! -f "$1/made" ] || return 0
    "$work/mkllama" "$1/base" --shard-size 5000000000
    for tune in 1 2; do
        "$work/mkllama" "$1/tune$tune" --shard-size 5000000000 --tune "$tune"
    done
    touch "$1/made"
}

machine
row where method manifest 'floor s' 'wsurg s' GB/s ratio 'peak MiB'
row --- --- --- --: --: --: --: --:
for place in $where; do
    bench_place "$place"
done
if [ -n "$write" ]; then
    { echo '# Results of tests/bench/merge.sh' && echo && machine && cat "$work/table"; } \
        >"$write"
fi
