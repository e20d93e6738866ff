#!/usr/bin/env bash
# cached.sh - merge only what was not merged before, and hand on only what is whole
#
#   examples/pipelines/cached.sh OUT_FOLDER [WSURG]
#
# The key of a plan depends on the contents of its inputs and on every parameter, so it
# names a result before it is made: a cache needs nothing else.
set -euo pipefail
models=$(cd "$(dirname "${BASH_SOURCE[0]}")/../models" && pwd)
out=$1
wsurg=${2:-wsurg}
merge=(--base "$models/base" "$models/sorting" "$models/romans" --method ties
    --set density=0.3)

key=$("$wsurg" plan "${merge[@]}" --key -q)
target=$out/${key#*:}
if [ -d "$target" ]; then
    echo "in the cache: $target"
else
    "$wsurg" plan "${merge[@]}" -o "$target/" --json="$out/plan.json" >/dev/null
    "$wsurg" merge "${merge[@]}" -o "$target/" --json="$out/merge.json" -q
    echo "merged: $target"
fi
"$wsurg" verify "$target/" | tail -n 1
