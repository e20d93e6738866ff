#!/usr/bin/env bash
# quickstart.sh - from a fresh clone to a merge of two real fine-tunes
#
# Installs the Debian packages that are missing, builds into build/, merges two of the
# models in examples/models/ and checks the result. Can be run again at any time.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. tests/setup.sh

M=examples/models
OUT=build/quickstart

# show COMMAND...: print a command as one would type it, then run it
show() {
    printf '\n$ %s\n' "${*//build\/wsurg/wsurg}"
    "$@" || fail "the command above failed with status $?"
}

fail() {
    say "" "quickstart: FAILED: $*"
    exit 1
}

say "wsurg quickstart: packages, build, and a merge of two real fine-tunes"
need "$BUILD_NEEDS"
build build || fail "the build did not succeed"
rm -rf "$OUT"
mkdir -p "$OUT"

say "" "A small Llama learned ten skills; copies of it were tuned further on one skill each." \
    "Breadcrumbs brings two of these into one model, with no training:"
show build/wsurg merge $M/base $M/sums $M/romans --method breadcrumbs --set lambda=0.9 \
    -o "$OUT/merged/"
say "" "Is every byte on disk what the merge wrote?"
show build/wsurg verify "$OUT/merged"
say "" "Where is it different from the base?"
printf '\n$ wsurg diff %s %s\n' "$M/base" "$OUT/merged"
build/wsurg diff $M/base "$OUT/merged"
[ $? -eq 1 ] || fail "diff should have found differences (status 1)"
say "" "The same merge again gives the same bytes, whatever the number of threads:"
show build/wsurg merge $M/base $M/sums $M/romans --method breadcrumbs --set lambda=0.9 \
    -j 1 -q -o "$OUT/again/"
cmp "$OUT/merged/model.safetensors" "$OUT/again/model.safetensors" ||
    fail "two runs gave different bytes"
say "byte-equal"

say "" "quickstart: PASSED in $SECONDS s: the merged model is in $OUT/merged"
