#!/usr/bin/env bash
# quickstart.sh - from a fresh clone to a merge of two real fine-tunes
#
# Installs the Debian packages that are missing, builds into build/, merges two of the
# models in examples/models/ and checks the result. Can be run again at any time.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. tests/setup.sh
exec 2>&1

M=examples/models
OUT=build/quickstart

fail() {
    say
    say "quickstart: FAILED: $*"
    exit 1
}

# show COMMAND...: print a command as one would type it, then run it
show() {
    say
    say "\$ ${*//build\/wsurg/wsurg}"
    "$@" || fail "the command above ended with status $?"
}

say "wsurg quickstart: packages, build, and a merge of two real fine-tunes"
need "$BUILD_NEEDS"
build build || fail "the build did not succeed"
rm -rf "$OUT"
mkdir -p "$OUT"

say
say "A small Llama learned ten skills; copies of it were tuned further, one on sorting,"
say "one on Roman numerals. Breadcrumbs brings both updates onto the base, untrained:"
show build/wsurg merge --base $M/base $M/sorting $M/romans --method breadcrumbs \
    -o "$OUT/merged/"
say
say "Is every byte on disk what the merge wrote?"
show build/wsurg verify "$OUT/merged/"
say
say "How far is it from the base?"
say
say "\$ wsurg diff $M/base $OUT/merged/ | tail -n 1"
# status 1 is diff's answer that they differ
{ build/wsurg diff $M/base "$OUT/merged/" || [ $? -eq 1 ]; } | tail -n 1 | grep . ||
    fail "diff said nothing"
say
say "The same merge on one thread and in a quarter of the memory gives the same bytes:"
show build/wsurg merge --base $M/base $M/sorting $M/romans --method breadcrumbs \
    --threads 1 --max-memory 64MiB -q -o "$OUT/again/"
show cmp "$OUT/merged/model.safetensors" "$OUT/again/model.safetensors"

say
say "Two skills learnt apart by wsurg itself, merged with Breadcrumbs and LiNeS, and all"
say "measured on prompts that none of them has seen:"
mkdir -p "$OUT/learn"
show examples/pipelines/tune-merge-eval.sh "$OUT/learn" build/wsurg

say
say "quickstart: PASSED in $SECONDS s; the merged model is $OUT/merged/"
