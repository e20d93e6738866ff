#!/usr/bin/env bash
# big.sh - a 70B-shaped base and four fine-tunes: planned in a second, merged in 1 GiB
#
#   tests/bench/big.sh [--no-part] [WSURG_BINARY]     DISK=FOLDER  (default: build/bench)
#
# The five models are 138 GB each on paper: headers are real, data are holes, except
# the first shard of 30, which is filled in all five (about 24 GB on disk). `plan` over
# all must take under one second; `merge --part 1/30` by TIES must work inside a memory
# cgroup of 1 GiB (not under RLIMIT_AS: OpenBLAS spins when address space runs out).
# Status 77 when the files fit nowhere or no cgroup can be made.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/setup.sh
. tests/bench/lib.sh

part=1
if [ "${1:-}" = --no-part ]; then
    part=
    shift
fi
wsurg=$(realpath "${1:-build/wsurg}")
[ -x "$wsurg" ] || die "no program at '$wsurg'"
D=${DISK:-build/bench}
mkdir -p "$D"
D=$(cd "$D" && pwd)/big
work=$(mktemp -d)
group=
cleanup() {
    [ -z "$group" ] || rmdir "$group" 2>/dev/null || true
    rm -rf "$work" "$D"
}
trap cleanup EXIT

SHARD_BYTES=4850000000 # gives 30 shards
LIMIT=$((1 << 30))

# in_group COMMAND...: run it with LIMIT bytes of memory, page cache included
in_group() {
    if [ -n "$group" ]; then
        bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@"
    else
        systemd-run --quiet --scope -p MemoryMax=$LIMIT -p MemorySwapMax=0 "$@"
    fi
}

# find_group: a cgroup of version 2 or 1 made by hand, or systemd-run
find_group() {
    local own name=wsurg-big-$$
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        own=/sys/fs/cgroup/$name
        if mkdir "$own" 2>/dev/null; then
            if echo $LIMIT 2>/dev/null >"$own/memory.max"; then
                group=$own
                return
            fi
            rmdir "$own"
        fi
    elif mkdir "/sys/fs/cgroup/memory/$name" 2>/dev/null; then
        group=/sys/fs/cgroup/memory/$name
        echo $LIMIT >"$group/memory.limit_in_bytes"
        return
    fi
    systemd-run --quiet --scope -p MemoryMax=$LIMIT true 2>/dev/null
}

make_all() {
    local tune fill=0-0
    [ -z "$part" ] || fill=1-1
    compile_mkllama
    "$work/mkllama" "$D/base" --shape 70b --shard-size $SHARD_BYTES --fill $fill
    for tune in 1 2 3 4; do
        "$work/mkllama" "$D/tune$tune" --shape 70b --shard-size $SHARD_BYTES \
            --fill $fill --tune "$tune"
    done
}

MERGE=(--base "$D/base" "$D/tune1" "$D/tune2" "$D/tune3" "$D/tune4" --method ties)
try_plan() { # the 138 GB of the output need not be free: status 4, but all is shown
    "$wsurg" plan "${MERGE[@]}" -o "$D/out/" -qq --json="$work/plan.json" \
        >/dev/null 2>&1 || [ $? = 4 ]
}
try_part() {
    in_group "$wsurg" merge "${MERGE[@]}" --part 1/30 -o "$D/out/" \
        --json="$work/part.json" -q >/dev/null
}

free=$(df -B1 --output=avail "$(dirname "$D")" | tail -n 1)
if [ -n "$part" ] && [ "$free" -lt 40000000000 ]; then
    say "skipped: 40 GB of disk are needed, $free bytes are free"
    exit 77
fi
mkdir -p "$D"
machine
say "making a 70B-shaped base and four fine-tunes"
make_all
say "$(find "$D/base" -name '*.safetensors' | wc -l) shards each," \
    "$(($(bytes_of "$D"/*/*.safetensors) / 1000000000)) GB on paper"

sync
best=$(median "$(timed try_plan)" "$(timed try_plan)" "$(timed try_plan)")
say "plan: $best s (median of 3)"
awk -v s="$best" 'BEGIN { exit !(s < 1) }' || die "plan took $best s, wanted under 1 s"

[ -n "$part" ] || exit 0
if ! find_group; then
    say "skipped: no memory cgroup can be made here"
    exit 77
fi
took=$(timed try_part) || die "the merge of part 1/30 failed"
read_bytes=$(json_number "$work/part.json" read_bytes)
say "ties, part 1/30 in 1 GiB: $took s, $((read_bytes / 1000000)) MB read," \
    "peak $(($(json_number "$work/part.json" peak_memory_bytes) >> 20)) MiB"
