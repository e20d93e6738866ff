#!/usr/bin/env bash
# run.sh - wsurg against mergekit and the safetensors package
#
#   tests/interop/run.sh [--oracle] [WSURG_BINARY]
#
# --oracle leaves wsurg out and checks only that mergekit and the slow reference agree.
# Environment: WSURG_VENV_DIR (build/venv), WSURG_PYTHON (python3.11), INTEROP_ONLY=REGEX,
# INTEROP_VERBOSE=1 (list the tensors on which a known defect acts), INTEROP_KEEP=1.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
oracle=
if [ "${1:-}" = --oracle ]; then
    oracle=--oracle
    shift
fi
start=$PWD
wsurg=${1:-$root/build/wsurg}
case $wsurg in /*) ;; *) wsurg=$start/$wsurg ;; esac

finish() { # passed failed skipped
    echo "interop: $1 passed, $2 failed, $3 skipped"
    [ "$2" -eq 0 ]
    exit
}

if [ -z "$oracle" ] && [ ! -x "$wsurg" ]; then
    echo "not ok binary: no program at the path given or at build/wsurg"
    finish 0 1 0
fi

cd "$root"
venvs=${WSURG_VENV_DIR:-build/venv}
mkdir -p "$venvs"
venvs=$(cd "$venvs" && pwd)

python=
for candidate in "${WSURG_PYTHON:-}" python3.11 python3; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "not ok python: Python 3.11 or later is needed"
    finish 0 1 0
fi

# The index counts as unreachable only when a plain small package cannot be had either.
unreachable() {
    local probe=$venvs/probe
    rm -rf "$probe"
    if "$1/bin/pip" download -q --no-deps --no-cache-dir --retries 1 -d "$probe" tqdm==4.67.1 \
        >"$probe.log" 2>&1; then
        rm -rf "$probe"
        return 1
    fi
    rm -rf "$probe"
    grep -qE 'NewConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|ProxyError|ProtocolError|Connection (refused|reset)|Network is unreachable|Temporary failure in name resolution|no-index' \
        "$probe.log"
}

# venv NAME: the environment of requirements-NAME.txt; 0 there, 1 failed, 2 unreachable
venv() {
    local name=$1 list=$here/requirements-$1.txt dir=$venvs/$1 log=$venvs/$1.log want
    want=$({ cat "$list"; "$python" --version; } | sha256sum | cut -d' ' -f1)
    if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$want" ] && "$dir/bin/python" -c '' 2>/dev/null; then
        return 0
    fi
    rm -rf "$dir"
    "$python" -m venv "$dir" >"$log" 2>&1 || return 1
    if ! "$dir/bin/pip" install -q --no-deps --disable-pip-version-check \
        -r "$list" >>"$log" 2>&1; then
        if unreachable "$dir"; then
            return 2
        fi
        return 1
    fi
    echo "$want" >"$dir/stamp"
}

exec 9>"$venvs/lock"
flock 9
passed=0 failed=0 skipped=0 peers=()
for list in "$here"/requirements-*.txt; do
    name=${list##*/requirements-}
    name=${name%.txt}
    status=0
    venv "$name" || status=$?
    case $status in
    0) [[ $name != mergekit-* ]] || peers+=(--peer "${name#mergekit-}=$venvs/$name/bin/python") ;;
    2) skipped=$((skipped + 1)) && echo "skip venv/$name: the package index cannot be reached" ;;
    *)
        failed=$((failed + 1))
        echo "not ok venv/$name: installation failed"
        tail -n 3 "$venvs/$name.log" | cut -c1-200 | sed 's/^/# /'
        ;;
    esac
done
flock -u 9
[ -f "$venvs/tensors/stamp" ] || finish "$passed" "$failed" "$skipped"

work=$(mktemp -d)
[ -n "${INTEROP_KEEP:-}" ] || trap 'rm -rf "$work"' EXIT
tally=$work/tally
status=0
OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} PYTHONDONTWRITEBYTECODE=1 \
    "$venvs/tensors/bin/python" "$here/interop.py" --root "$root" --work "$work" --wsurg "$wsurg" \
    --tally "$tally" $oracle "${peers[@]}" || status=$?
if [ "$status" -ne 0 ] || [ ! -f "$tally" ]; then
    echo "not ok interop.py: ended with status $status"
    failed=$((failed + 1))
fi
count() { passed=$((passed + ${1:-0})) failed=$((failed + ${2:-0})) skipped=$((skipped + ${3:-0})); }
p=0 f=0 s=0
[ ! -f "$tally" ] || read -r p f s <"$tally"
count "$p" "$f" "$s"

# also VENV SCRIPT ARGUMENT...: a script with its own closing line, in that environment
also() {
    local python=$venvs/$1/bin/python script=$2 log=$work/${2%.py}.log numbers status
    shift 2
    [ -f "${python%/bin/python}/stamp" ] || return 0 # its failure or skip is counted above
    PYTHONDONTWRITEBYTECODE=1 "$python" "$here/$script" "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    numbers=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$log" | tail -n 1)
    if [ -z "$numbers" ] || { [ "$status" -ne 0 ] && [[ $numbers =~ ^[0-9]+\ 0\  ]]; }; then
        echo "not ok $script: ended with status $status"
        failed=$((failed + 1))
    fi
    # shellcheck disable=SC2086 # three numbers
    count $numbers
}

if [ -z "$oracle" ]; then
    also tensors formats_checks.py --wsurg "$wsurg"
    also mergekit-0.1.5 tokenizer_checks.py --library "$(dirname "$wsurg")/src/libwsurg.so" \
        --megabytes "${INTEROP_MEGABYTES:-0.5}" "$root/examples/models/base/tokenizer.json"
    also mergekit-0.1.5 recipe_checks.py "$wsurg"
    also mergekit-0.1.5 vocab_checks.py "$wsurg"
    also mergekit-0.1.5 model_checks.py --library "$(dirname "$wsurg")/src/libwsurg.so"
    also mergekit-0.1.5 eval_checks.py --wsurg "$wsurg" --library "$(dirname "$wsurg")/src/libwsurg.so" \
        --models "$root/examples/models"
    also mergekit-0.1.5 tune_checks.py --wsurg "$wsurg" \
        --library "$(dirname "$wsurg")/src/libwsurg.so" --root "$root"
    also peft adapter_checks.py "$wsurg"
    also peft corda_checks.py "$wsurg"
    "$python" "$root/examples/models/skills.py" --skill roman --split train --count 4000 >"$work/roman.txt"
    also peft corda_whole.py "$wsurg" example "$root/examples/models/base" 20 "$work/roman.txt"
    also peft corda_whole.py "$wsurg" stories260k "$root/../shared/data/stories260k" 200 \
        "$root/../shared/data/text/es.train.txt"
    also gguf gguf_checks.py --wsurg "$wsurg"
fi
finish "$passed" "$failed" "$skipped"
