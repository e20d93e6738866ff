#!/usr/bin/env bash
# faults.sh - disks that fill, folders that refuse, inputs that change: one line, nothing
# half written
#
#   tests/kill/faults.sh WSURG KILLER MKLLAMA
#   tests/kill/faults.sh BUILD_FOLDER
#
# After each fault: the exit status of the contract, one `wsurg: error:` line, no output
# and no staging folder, and under --force the old output untouched. Cases that need root
# say so when they are skipped.
set -uo pipefail
[ $# -ne 1 ] || set -- "$1/wsurg" "$1/tests/kill/killer" "$1/tests/bench/mkllama"
[ $# -eq 3 ] || { sed -n '5,6p' "$0" && exit 2; }
WSURG=$(realpath "$1") KILLER=$(realpath "$2") MKLLAMA=$(realpath "$3")

room=$(mktemp -d)
mounted=
trap '[ -z "$mounted" ] || umount "$mounted"; rm -rf "$room"' EXIT
chmod 755 "$room"
cd "$room" || exit 1
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

"$MKLLAMA" base.safetensors --shape small && "$MKLLAMA" tune.safetensors --shape small \
    --tune 1 || exit 1
MERGE=("$WSURG" merge --base "$room/base.safetensors" "$room/tune.safetensors" --method
    ties)

# refused NAME STATUS WANTED FOLDER: judge the run whose status is $GOT, talk in err
refused() {
    local lines
    [ "$GOT" -eq "$WANT" ] || fail "$1: status $GOT, wanted $WANT: $(tail -n 1 err)"
    lines=$(grep -c '^wsurg: error:' err)
    [ "$lines" -eq 1 ] || fail "$1: $lines error lines: $(cat err)"
    grep -qE "$2" err || fail "$1: the error does not say '$2': $(cat err)"
    [ ! -e "$3/.m.safetensors.wsurg" ] || fail "$1: the staging folder was left"
    if [ -n "$OLD" ]; then
        cmp -s "$OLD" "$3/m.safetensors" || fail "$1: the old output was touched"
    else
        [ ! -e "$3/m.safetensors" ] || fail "$1: an output is there"
    fi
    echo "ok $1"
}

# faulty NAME STATUS PATTERN FOLDER COMMAND...: run it, judge it
faulty() {
    local name=$1 pattern=$3 folder=$4
    WANT=$2 GOT=0
    shift 4
    "$@" 2>err >out || GOT=$?
    refused "$name" "$pattern" "$folder"
}

# acted COMMAND PROGRAM...: run PROGRAM, COMMAND once it has staged something
acted() {
    local said word
    said=$("$KILLER" --stage "$D/.m.safetensors.wsurg/out" --do "$1" -- "${@:2}" \
        --progress json)
    read -r word GOT _ <<<"$said"
    [ "$word" = ended ] || fail "the killer said: $said"
    return "$GOT"
}

limited() { (ulimit -f "$1" && shift && "$@"); }

# twice CASE: into an empty folder, and with --force over an old output
twice() {
    OLD=
    "$1" ''
    OLD=$room/old.safetensors
    cp "$OLD" "$D/m.safetensors"
    "$1" ' over an old output' --force
    rm -f "$D/m.safetensors"
}

file_size() {
    faulty "file size limit$1" 5 'm\.safetensors|out' "$D" \
        limited 4096 "${MERGE[@]}" -o "$D/m.safetensors" "${@:2}"
}

disk_too_small() {
    faulty "disk too small$1" 4 'free|disk' "$D" \
        "${MERGE[@]}" -o "$D/m.safetensors" "${@:2}"
}

disk_fills() {
    rm -f "$D/filler"
    faulty "disk fills later$1" 5 '[Nn]o space left' "$D" \
        acted "dd if=/dev/zero of=$D/filler bs=64k 2>/dev/null; true" \
        "${SLOW[@]}" -o "$D/m.safetensors" "${@:2}"
    rm -f "$D/filler"
}

input_changes() {
    faulty "input changes$1" 5 'slow-tune' "$D" \
        acted "touch $room/slow-tune.safetensors" \
        "${SLOW[@]}" -o "$D/m.safetensors" "${@:2}"
}

input_shrinks() {
    cp slow-tune.safetensors kept
    faulty "input shrinks$1" 5 'slow-tune' "$D" \
        acted "truncate -s 1M $room/slow-tune.safetensors" \
        "${SLOW[@]}" -o "$D/m.safetensors" "${@:2}"
    mv kept slow-tune.safetensors
}

input_truncated() {
    head -c 20000000 tune.safetensors >short.safetensors
    faulty "input truncated$1" 3 'short\.safetensors' "$D" "$WSURG" merge --method ties \
        --base base.safetensors short.safetensors -o "$D/m.safetensors" "${@:2}"
}

as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }

unwritable() {
    faulty 'unwritable folder' 5 '[Pp]ermission denied' "$D/shut" \
        "$@" "${MERGE[@]}" -o "$D/shut/m.safetensors"
}

"${MERGE[@]}" --set density=0.5 -o old.safetensors -q || fail 'no old output'

# A merge that lasts long enough for something to happen in its course.
"$MKLLAMA" slow-base.safetensors --shape small --layers 24 &&
    "$MKLLAMA" slow-tune.safetensors --shape small --layers 24 --tune 1 || exit 1
SLOW=("$WSURG" merge --base "$room/slow-base.safetensors" "$room/slow-tune.safetensors"
    --method dare_ties -j 1)

mkdir plain
D=$room/plain
twice file_size
twice input_truncated
twice input_changes
twice input_shrinks

OLD=
mkdir plain/shut && chmod 555 plain/shut
if [ "$(id -u)" -ne 0 ]; then
    unwritable
elif as_nobody test -x "$WSURG" -a -r "$room/base.safetensors" 2>/dev/null; then
    unwritable as_nobody
else
    echo 'skipped: unwritable folder (nobody cannot reach the program)'
fi

mkdir small
if mount -t tmpfs -o size=20M none small 2>/dev/null; then
    mounted=$room/small D=$room/small
    OLD=
    disk_too_small ''
    mount -o remount,size=250M small
    twice disk_fills
else
    echo 'skipped: full disks (a tmpfs cannot be mounted: not root, or a container)'
fi
[ $failures -eq 0 ] || echo "$failures failures"
[ $failures -eq 0 ]
