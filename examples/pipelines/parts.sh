#!/usr/bin/env bash
# parts.sh - one merge, made in parts (as if on several machines), then joined
#
#   examples/pipelines/parts.sh OUT_FOLDER [WSURG]
#
# Each part writes whole shards and knows nothing of the others; join checks that all are
# there and that they belong together. The result is byte for byte that of one run.
set -euo pipefail
models=$(cd "$(dirname "${BASH_SOURCE[0]}")/../models" && pwd)
out=$1
wsurg=${2:-wsurg}
merge=(--base "$models/base" "$models/sorting" "$models/romans" --method breadcrumbs
    --shard-size 300KB -q)

for part in 1 2 3; do
    "$wsurg" merge "${merge[@]}" --part $part/3 -o "$out/joined/"
done
"$wsurg" join "${merge[@]}" -o "$out/joined/"
"$wsurg" verify "$out/joined/" | tail -n 1

"$wsurg" merge "${merge[@]}" -o "$out/whole/"
diff -r "$out/joined" "$out/whole" && echo 'the same bytes as in one run'
