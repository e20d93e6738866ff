#!/usr/bin/env bash
# pipelines.sh - every script of examples/pipelines runs, also a second time
#
#   tests/pipelines.sh WSURG
set -euo pipefail
wsurg=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../examples/pipelines"
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
for script in *.sh; do
    mkdir "$room/${script%.sh}"
    "./$script" "$room/${script%.sh}" "$wsurg"
done
./cached.sh "$room/cached" "$wsurg" | grep '^in the cache: '
