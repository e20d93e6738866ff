#!/usr/bin/env bash
# run.sh - set up, build, test
#
#   tests/run.sh              every fast and golden test of the release build
#   tests/run.sh --sanitize   the same tests under AddressSanitizer and UBSan
#   tests/run.sh --fuzz[=S]   every fuzz target for S seconds (30) on its corpus
#   tests/run.sh --full       all of these, and ThreadSanitizer, valgrind, clang,
#                             clang-tidy, coverage, the kill test in full
#   tests/run.sh --thread     one of those alone; also --valgrind, --clang, --tidy,
#                             --coverage, --kill
#
# Ends with the line `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. tests/setup.sh

SUITES=(--suite fast --suite golden)
SUPPRESS=$PWD/tests/suppressions

# The sanitizers' options hold for the test programs and for what they start.
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export LSAN_OPTIONS=suppressions=$SUPPRESS/lsan.supp:print_suppressions=0
export TSAN_OPTIONS=suppressions=$SUPPRESS/tsan.supp:halt_on_error=1

# run_tests DIR [MESON_TEST_ARGUMENT...]: count meson's results, show what failed
run_tests() {
    local dir=$1 log failed out
    shift
    rm -f "$dir"/meson-logs/testlog*.json
    out=$(mktemp)
    meson test -C "$dir" --no-rebuild --print-errorlogs "$@" </dev/null >"$out" 2>&1
    log=$(echo "$dir"/meson-logs/testlog*.json) # with --wrap its name says in what
    if [ ! -s "$log" ]; then
        tail -n 20 "$out"
        rm -f "$out"
        result 1 "$dir ran no test"
        return
    fi
    tally() { grep -cE "\"result\": \"($1)\"" "$log"; }
    failed=$(tally 'FAIL|ERROR|TIMEOUT|INTERRUPT|UNEXPECTEDPASS')
    [ "$failed" -eq 0 ] || grep -vE '^ *[0-9]+/[0-9]+ .* OK ' "$out"
    grep -E ' SKIP ' "$out"
    rm -f "$out"
    count "$(tally 'OK|EXPECTEDFAIL')" "$failed" "$(tally SKIP)"
    say "$dir: $(tally 'OK|EXPECTEDFAIL') passed, $failed failed, $(tally SKIP) skipped"
}

# build_and_test DIR [MESON_ARGUMENT...] [-- MESON_TEST_ARGUMENT...]
build_and_test() {
    local dir=$1 args=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        args+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift
    if build "$dir" "${args[@]}"; then
        run_tests "$dir" "${SUITES[@]}" "$@"
    else
        result 1 "$dir"
    fi
}

# A busy machine is no failure: limits of time are for what hangs.
fast() { build_and_test build "${WERROR[@]}" -- --timeout-multiplier 4; }

sanitize() {
    build_and_test build-asan "${WERROR[@]}" -Dbuildtype=debugoptimized \
        -Db_lundef=false -Db_sanitize=address,undefined \
        -- --no-suite lint --timeout-multiplier 5
}

CLANG_NEEDS='
run:clang         clang
'

# The name of a clang that can link the fuzzing engine, installed when there is none.
clang_for_fuzzing() {
    local cc version
    cc=$(first_of clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14) || {
        need "$CLANG_NEEDS" >&2
        cc=$(first_of clang) || return 1
    }
    version=$(echo __clang_major__ | "$cc" -E -P -x c -)
    if ! echo 'int LLVMFuzzerTestOneInput(void){return 0;}' |
        "$cc" -fsanitize=fuzzer,address -x c -o /dev/null - 2>/dev/null; then
        apt_install "libclang-rt-$version-dev" >&2
    fi
    echo "$cc"
}

# fuzz_one SECONDS PROGRAM: a crash leaves its input and its log in build-fuzz
fuzz_one() {
    local name=${2##*/} found=build-fuzz/found
    local target=${name#fuzz_} corpus=()
    mkdir -p "$found/$target"
    [ ! -d "tests/fuzz/corpus/$target" ] || corpus=("tests/fuzz/corpus/$target")
    "$2" -max_total_time="$1" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$found/" "$found/$target" "${corpus[@]}" </dev/null >"$found/$name.log" 2>&1
}

fuzz() { # SECONDS
    local cc program programs=() pids=() i
    cc=$(clang_for_fuzzing) || {
        result 1 "fuzz: no clang"
        return
    }
    CC=$cc build build-fuzz -Dbuildtype=debugoptimized -Dfuzz=libfuzzer \
        -Dc_args=-fsanitize=fuzzer-no-link -Db_sanitize=address,undefined \
        -Db_lundef=false || {
        result 1 build-fuzz
        return
    }
    for program in build-fuzz/tests/fuzz/fuzz_*; do
        [ -f "$program" ] && [ -x "$program" ] && programs+=("$program")
    done
    [ ${#programs[@]} -gt 0 ] || result 1 "fuzz: no target was built"
    for ((i = 0; i < ${#programs[@]}; i += 2)); do # two at a time
        pids=()
        for program in "${programs[@]:i:2}"; do
            fuzz_one "$1" "$program" &
            pids+=($!)
        done
        for program in "${programs[@]:i:2}"; do
            fuzz_report "${pids[0]}" "${program##*/}"
            pids=("${pids[@]:1}")
        done
    done
}

fuzz_report() { # PID NAME
    local status=0 log=build-fuzz/found/$2.log runs
    wait "$1" || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    [ "$status" -eq 0 ] || tail -n 40 "$log"
    result "$status" "$2 (${runs:-no} executions)"
}

thread() {
    build_and_test build-tsan -Dbuildtype=debugoptimized -Db_lundef=false \
        -Db_sanitize=thread -- --no-suite lint --no-suite kill --timeout-multiplier 10
}

under_valgrind() {
    need 'run:valgrind valgrind'
    # The kernels of the newest processors are beyond valgrind: WS_NO_CLONES. Blocks that
    # are only possibly lost are those of children that end in the middle on purpose.
    build_and_test build-valgrind -Dbuildtype=debugoptimized -Dc_args=-DWS_NO_CLONES \
        -- --no-suite lint --no-suite kill --timeout-multiplier 20 --wrap="valgrind -q --error-exitcode=99 \
        --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite \
        --trace-children=yes --trace-children-skip=*/sh,*/bash,*/usr/* \
        --suppressions=$SUPPRESS/valgrind.supp"
}

with_clang_built() {
    local cc
    if ! cc=$(clang_for_fuzzing) || ! CC=$cc build build-clang; then
        result 1 build-clang
        return 1
    fi
}

with_clang() {
    with_clang_built && run_tests build-clang "${SUITES[@]}"
}

tidy() {
    local tidy sources
    tidy=$(first_of clang-tidy clang-tidy-19 clang-tidy-14) || {
        need 'run:clang-tidy clang-tidy'
        tidy=clang-tidy
    }
    with_clang_built || return
    mapfile -t sources < <(find src merges tests/unit -name '*.c' | sort)
    printf '%s\n' "${sources[@]}" |
        xargs -P 2 -n 4 "$tidy" -p build-clang --quiet >build-clang/tidy.log 2>/dev/null
    result $? "clang-tidy over ${#sources[@]} files"
    grep -E '(warning|error):' build-clang/tidy.log | sort -u | head -n 40
}

coverage() {
    need 'run:gcovr gcovr'
    build_and_test build-cov -Dbuildtype=debug -Db_coverage=true
    gcovr -r . -f src/ -f merges/ --txt build-cov/coverage.txt -s build-cov \
        2>/dev/null | grep -E '^(lines|functions|branches):'
}

full_only() {
    thread
    under_valgrind
    with_clang
    tidy
    coverage
    kill_in_full
}

kill_in_full() {
    build build "${WERROR[@]}" && tests/kill/kill.sh --full build
    result $? "kill test in full"
}

need "$BUILD_NEEDS"
case ${1:-} in
'') fast ;;
--sanitize) sanitize ;;
--fuzz) fuzz 30 ;;
--fuzz=*) fuzz "${1#--fuzz=}" ;;
--full)
    fast
    sanitize
    fuzz 30
    full_only
    ;;
--thread) thread ;;
--valgrind) under_valgrind ;;
--clang) with_clang ;;
--tidy) tidy ;;
--coverage) coverage ;;
--kill) kill_in_full ;;
*) die "unknown option '$1': $(sed -n '4,11p' tests/run.sh)" ;;
esac
finish
