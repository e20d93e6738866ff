#!/usr/bin/env bash
# kill.sh - SIGKILL a merge at any moment: the output is absent or whole, and resumes
#
#   tests/kill/kill.sh [--full] WSURG KILLER KILLAT.SO MKLLAMA
#   tests/kill/kill.sh [--full] BUILD_FOLDER
#
# Two parts. By time: a running merge is killed at random moments between its first
# staged byte and its end, some of them in the final check. By step: a small merge is
# killed before each of its calls that change the file system, one after another, so
# that every state which a rename or an unlink can leave is met. After each kill:
#   - the output is absent or, to the byte, what an undisturbed run makes;
#   - `--resume` ends with status 0 and exactly the files of the undisturbed run;
#   - killed after 90 %, the resumed run reads under 20 % of what the whole run read.
# --full: 200 kills by time over a merge of at least 5 seconds, 30 in the final part.
set -uo pipefail
full=
[ "${1:-}" != --full ] || { full=1 && shift; }
if [ $# -eq 1 ]; then
    set -- "$1/wsurg" "$1/tests/kill/killer" "$1/tests/kill/killat.so" \
        "$1/tests/bench/mkllama"
fi
[ $# -eq 4 ] || { sed -n '4,5p' "$0" && exit 2; }
WSURG=$(realpath "$1") KILLER=$(realpath "$2") KILLAT=$(realpath "$3")
MKLLAMA=$(realpath "$4")
for program in "$WSURG" "$KILLER" "$MKLLAMA"; do
    [ -x "$program" ] || { echo "no program at $program" && exit 1; }
done

room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room" || exit 1
RANDOM=20 failures=0 kills=0 merge_kills=0 final_kills=0 late=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

number() { grep -oE "\"$2\": ?[0-9]+" "$1" | head -n 1 | grep -oE '[0-9]+$'; }
calc() { awk "BEGIN { printf \"%.3f\", $*; }"; }
above() { awk "BEGIN { exit !($1 > $2) }"; }
between() { calc "$1 + ($2 - $1) * $RANDOM / 32767"; } # a random moment

# same A B: the same files with the same bytes, hidden ones too; says what differs
same() { diff -rq "$1" "$2"; }

# command FOLDER [OPTION]...: the merge in words, into the array RUN
command() {
    RUN=("$WSURG" merge --base base tune1 tune2 --method "$METHOD" -o "$1/$OUT"
        -j "$THREADS" "${@:2}")
}

# reference: the undisturbed run, into whole/
reference() {
    rm -rf whole && mkdir whole
    command whole --json=whole.json -q
    "${RUN[@]}" || fail "the undisturbed run ended with status $?"
    READ=$(number whole.json read_bytes)
}

# shown_ok: the output is absent or whole (its manifest may be missing yet)
shown_ok() {
    [ -e "cut/$OUT" ] || return 0
    if [ -d "cut/$OUT" ]; then
        same "cut/$OUT" "whole/$OUT"
    else
        cmp -s "cut/$OUT" "whole/$OUT"
    fi
}

# resume SHARE NOTE: finish what was killed, compare
resume() {
    local status=0 again
    command cut --resume --json=resumed.json -q
    "${RUN[@]}" 2>resumed.err || status=$?
    if [ $status -ne 0 ]; then
        fail "$2: --resume ended with status $status: $(tail -n 1 resumed.err)"
        return
    fi
    same cut whole || fail "$2: after --resume the files differ"
    again=$(number resumed.json read_bytes)
    if above "$1" 0.9; then
        late=$((late + 1))
        above "$READ" "5 * ${again:-0}" ||
            fail "$2: killed at $1 of the merge, re-read ${again:-?} of $READ bytes"
    fi
}

# kill_once KILLER_OPTION...: one run that is killed, and what must hold after it
kill_once() {
    local said word phase share
    rm -rf cut && mkdir cut
    command cut --progress json
    said=$("$KILLER" --stage "cut/.$OUT.wsurg/out" "$@" -- "${RUN[@]}" 2>killed.err)
    read -r word phase share <<<"$said"
    if [ "$word" = ended ]; then
        [ "$phase" = 0 ] || fail "a run that was not killed: $said: $(tail -n 1 killed.err)"
        return
    fi
    kills=$((kills + 1))
    case $phase in
    merge) merge_kills=$((merge_kills + 1)) ;;
    final) final_kills=$((final_kills + 1)) ;;
    esac
    shown_ok || fail "killed in $phase at $share: the output is there and not whole"
    resume "$share" "killed in $phase at $share"
}

# moments: how long an undisturbed run takes to its first staged byte, its final part,
# its end
moments() {
    local said
    rm -rf cut && mkdir cut
    command cut --progress json
    said=$("$KILLER" --stage "cut/.$OUT.wsurg/out" -- "${RUN[@]}" 2>/dev/null)
    read -r _ _ STAGED FINAL END <<<"$said"
    above "$STAGED" 0 && above "$FINAL" 0 || fail "no progress was seen: $said"
}

# by_time KILLS FINAL_KILLS
by_time() {
    local tries=0
    moments
    echo "merge of $END s: first staged byte at $STAGED s, final part from $FINAL s"
    [ -z "$full" ] || above "$END" 5 || fail "the merge takes $END s, wanted 5"
    while [ $final_kills -lt "$2" ] && [ $tries -lt $((2 * $1)) ]; do
        kill_once --final "$(between 0 "$(calc "$END - $FINAL")")"
        tries=$((tries + 1))
    done
    [ $final_kills -ge "$2" ] || fail "only $final_kills kills in the final part"
    while [ $((merge_kills + final_kills)) -lt "$1" ] && [ $tries -lt $((4 * $1)) ]; do
        kill_once --staged "$(between 0 "$(calc "$END - $STAGED")")"
        tries=$((tries + 1))
    done
    [ $((merge_kills + final_kills)) -ge "$1" ] ||
        fail "only $((merge_kills + final_kills)) kills after the first staged byte"
    echo "$kills kills: $merge_kills in the merge, $final_kills in the final part;" \
        "$late resumed after 90 %"
}

# by_step: kill before each step; ASan must not mind who is preloaded first
by_step() {
    local n=0 status
    export ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0
    while [ $n -lt 300 ]; do
        n=$((n + 1))
        rm -rf cut && mkdir cut
        [ -z "${OLD:-}" ] || cp -a old/. cut/
        command cut -q ${OLD:+--force}
        status=0
        { LD_PRELOAD=$KILLAT KILL_AT=$n "${RUN[@]}" 2>killed.err; } 2>/dev/null || status=$?
        [ $status -ne 0 ] || break
        [ $status -eq 137 ] || fail "step $n: status $status: $(tail -n 1 killed.err)"
        kills=$((kills + 1))
        if [ -n "${OLD:-}" ]; then
            old_or_new_ok || fail "step $n: neither the old output nor the new"
        else
            shown_ok || fail "step $n: the output is there and not whole"
        fi
        resume_step "step $n"
    done
    [ $n -gt 5 ] || fail "only $n steps were seen: is $KILLAT preloaded?"
    echo "$OUT${OLD:+ over an old one}: killed before each of $((n - 1)) steps"
}

# With --force the old output stays until the new one takes its place in one step.
old_or_new_ok() {
    [ -e "cut/$OUT" ] || return 1
    if [ -d "cut/$OUT" ]; then
        same "cut/$OUT" "old/$OUT" >/dev/null || shown_ok
    else
        cmp -s "cut/$OUT" "old/$OUT" || shown_ok
    fi
}

resume_step() {
    local status=0
    command cut --resume ${OLD:+--force} -q
    "${RUN[@]}" 2>resumed.err || status=$?
    [ $status -eq 0 ] ||
        fail "$1: --resume ended with status $status: $(tail -n 1 resumed.err)"
    same cut whole || fail "$1: after --resume the files differ"
}

# sparsified_steps: a task vector made through a method has staged work of its own beside
# it; killed before each step, the next run to the same output leaves nothing of it
sparsified_steps() {
    local n=0 status
    rm -rf whole && mkdir whole
    "$WSURG" taskvec extract base tune1 -o whole/t.st -q -j "$THREADS" ||
        fail "the undisturbed extract ended with status $?"
    while [ $n -lt 300 ]; do
        n=$((n + 1)) status=0
        rm -rf cut && mkdir cut
        { LD_PRELOAD=$KILLAT KILL_AT=$n "$WSURG" taskvec extract base tune1 \
            --method ties -o cut/t.st -q -j "$THREADS" 2>killed.err; } 2>/dev/null ||
            status=$?
        [ $status -ne 0 ] || break
        [ $status -eq 137 ] || fail "step $n: status $status: $(tail -n 1 killed.err)"
        "$WSURG" taskvec extract base tune1 -o cut/t.st -q --force -j "$THREADS" ||
            fail "extract after step $n ended with status $?"
        same cut whole || fail "step $n: the next extract leaves other files"
    done
    [ $n -gt 20 ] || fail "only $n steps were seen: is $KILLAT preloaded?"
    echo "t.st through a method: killed before each of $((n - 1)) steps"
}

models() { # MKLLAMA_OPTION...
    "$MKLLAMA" base "$@" && "$MKLLAMA" tune1 --tune 1 "$@" &&
        "$MKLLAMA" tune2 --tune 2 "$@" || exit 1
}

# old_output: another merge's result, to be replaced
old_output() {
    rm -rf old && mkdir old
    command old --set weight=0.5 -q
    "${RUN[@]}" || fail "no old output: status $?"
}

models --shape small --layers 1
METHOD=ties THREADS=2
steps_new() {
    OUT=$1
    reference
    by_step
}

steps_over_old() {
    OUT=$1
    old_output
    reference
    OLD=1 by_step
}

if [ -f "$KILLAT" ]; then
    steps_new m.safetensors
    steps_over_old m
    sparsified_steps
    [ -z "$full" ] || { steps_new m && steps_over_old m.safetensors; }
fi
kills=0

METHOD=dare_ties THREADS=1 OUT=m.safetensors
# long_enough SECONDS SHAPE LAYERS...: models whose merge takes that long
long_enough() {
    local layers
    for layers in "${@:3}"; do
        models --shape "$2" --layers "$layers"
        moments
        ! above "$END" "$1" || break
    done
    reference
}

if [ -n "$full" ]; then
    long_enough 6.5 1b 1 2 4 8 12 16 24
    by_time 200 30
else
    long_enough 0.4 small 2 4 8 16
    by_time 12 3
fi
[ $failures -eq 0 ] || echo "$failures failures"
[ $failures -eq 0 ]
