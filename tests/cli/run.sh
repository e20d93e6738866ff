#!/bin/sh
# run.sh - run the cases of the command line: run.sh [--update] BUILD_FOLDER [NAME...]
#
# Each case runs in an empty folder with wsurg, mkmodel and jsoncheck on the PATH; its
# output, errors and exit status must be those of NAME.out, NAME.err, NAME.exit. A case
# that ends with 77 is skipped; so is the run when all of its cases are.
set -u
cases=$(cd "$(dirname "$0")" && pwd)
update=
[ "${1-}" != --update ] || { update=1 && shift; }
build=$(cd "$1" && pwd) && shift || exit 2
[ $# -gt 0 ] || set -- $(cd "$cases" && ls *.sh | sed 's/\.sh$//' | grep -vx run)

room=$(mktemp -d "${TMPDIR:-/tmp}/wsurg-cli-XXXXXX") || exit 2
trap 'rm -rf "$room"' EXIT
mkdir "$room/bin" "$room/tmp"
ln -s "$build/wsurg" "$build/tests/data/mkmodel" "$build/tests/cli/jsoncheck" \
    "$room/bin/"
export PATH="$room/bin:$PATH" TMPDIR="$room/tmp" CASES="$cases" WSURG="$room/bin/wsurg"
export SCHEMA="$cases/wsurg-1.schema.json"
unset LC_ALL LANG NO_COLOR TERM

# same KIND: the expectation of $name equals what came, or is rewritten
same() {
    if [ -n "$update" ]; then
        cp "$room/$1" "$cases/$name.$1"
        [ -s "$cases/$name.$1" ] && [ "$(cat "$room/$1")" != 0 ] || rm "$cases/$name.$1"
    elif [ -f "$cases/$name.$1" ]; then
        diff -u "$cases/$name.$1" "$room/$1"
    elif [ "$1" = exit ]; then
        echo 0 | diff -u - "$room/$1"
    else
        diff -u /dev/null "$room/$1"
    fi
}

failed=0 skipped=0
for name; do
    rm -rf "$room/empty" && mkdir "$room/empty"
    (cd "$room/empty" && exec sh "$cases/$name.sh") >"$room/raw.out" 2>"$room/raw.err" \
        </dev/null
    echo $? >"$room/exit"
    if [ "$(cat "$room/exit")" = 77 ]; then
        echo "$name skipped"
        skipped=$((skipped + 1))
        continue
    fi
    for kind in out err; do
        sed -E -e "s,$room/,ROOM/,g" -f "$cases/normalise.sed" "$room/raw.$kind" \
            >"$room/$kind"
    done
    good=1
    for kind in out err exit; do
        same $kind || good=0
    done
    [ $good = 1 ] || { echo "$name failed" && failed=$((failed + 1)); }
done
[ $failed = 0 ] || exit 1
[ $skipped -lt $# ] || exit 77
