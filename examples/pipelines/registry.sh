#!/usr/bin/env bash
# registry.sh - what a model registry runs before it takes a merge in
#
#   examples/pipelines/registry.sh OUT_FOLDER [WSURG]
#
# Plan, merge, gates against the base, digests, and the same again by whoever fetches it.
# Exit statuses decide: 0 done, 1 the answer is no, 2 a mistake in the request, 3 a bad
# input, 4 no room, 5 a failing disk, 6 a numerical fault, 7 the output is there.
set -euo pipefail
models=$(cd "$(dirname "${BASH_SOURCE[0]}")/../models" && pwd)
out=$1
wsurg=${2:-wsurg}
target=$out/merged
merge=(--base "$models/base" "$models/sums" "$models/sorting" --method breadcrumbs
    --set density=0.3 -o "$target/")

# Everything wrong with the request is known here, before a weight is read.
"$wsurg" plan "${merge[@]}" --json="$out/plan.json" >/dev/null

status=0
"$wsurg" merge "${merge[@]}" --json="$out/merge.json" -q || status=$?
case $status in
0) ;;
7) echo "there already, and left alone" ;;
*) echo "merge ended with $status" && exit "$status" ;;
esac

# A merge may change no tensor's shape, no norm by much, and nothing must be infinite.
gates=(--against "$models/base" --same --finite --max-rel-delta 0.5 --min-cosine 0.9)
if "$wsurg" check "$target/" "${gates[@]}" --json="$out/check.json" >/dev/null; then
    echo "gates: passed"
else
    echo "gates: not passed, see check.json" && exit 1
fi

# The base itself is no such merge: a gate that cannot fail would be none.
status=0
"$wsurg" check "$models/sums" --against "$models/base" --max-rel-delta 0.001 -q \
    >/dev/null || status=$?
[ "$status" -eq 1 ] || { echo "the gate does not fail where it must" && exit 1; }

"$wsurg" manifest "$target/" >"$out/manifest.txt"
"$wsurg" verify "$target/" | tail -n 1
