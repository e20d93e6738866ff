# setup.sh - what quickstart.sh, run.sh and .ci/run share: packages, building, counting
#
# Sourced by bash with the repository as working directory. Needs `set -u` to hold.

export LC_ALL=C.UTF-8 LANG=C.UTF-8

say() { printf '%s\n' "$*"; }
die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# ---- packages ----------------------------------------------------------------------

# A row is PROBE PACKAGE; the probe is what shows that the package is not needed:
# a program that runs (run:), a library that pkg-config knows (lib:), a C header (inc:).
BUILD_NEEDS='
run:gcc           gcc
inc:stdio.h       libc6-dev
run:meson         meson
run:ninja         ninja-build
run:pkg-config    pkg-config
run:mandoc        mandoc
lib:openblas      libopenblas-dev
inc:lapacke.h     liblapacke-dev
lib:libcjson      libcjson-dev
lib:libxxhash     libxxhash-dev
lib:libpcre2-8    libpcre2-dev
lib:libutf8proc   libutf8proc-dev
lib:libcrypto     libssl-dev
lib:yaml-0.1      libyaml-dev
lib:cmocka        libcmocka-dev
'

has() {
    case $1 in
    run:mandoc) command -v mandoc >/dev/null ;;
    run:*) "${1#run:}" --version >/dev/null 2>&1 ;;
    lib:*) pkg-config --exists "${1#lib:}" 2>/dev/null ;;
    inc:*) echo "#include <${1#inc:}>" | gcc -E -x c - >/dev/null 2>&1 ;;
    esac
}

is_debian() { [ -f /etc/debian_version ] && command -v apt-get >/dev/null; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root is needed for: $* (there is no sudo)"
    fi
}

# apt_install PACKAGE...: quietly; the log is shown when it fails
apt_install() {
    local log
    is_debian || die "this is no Debian; install what these packages hold, then run" \
        "this again: $*"
    log=$(mktemp)
    say "installing: $*"
    if ! { as_root apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -q --no-install-recommends "$@"; } </dev/null >"$log" 2>&1
    then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "could not install: $*"
    fi
    rm -f "$log"
}

# need ROWS: install the packages whose probe fails
need() {
    local probe package missing=()
    while read -r probe package; do
        [ -z "$probe" ] || has "$probe" || missing+=("$package")
    done <<<"$1"
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

# first_of NAME...: the first program of these that runs
first_of() {
    local name
    for name in "$@"; do
        if "$name" --version >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    return 1
}

# ---- building ----------------------------------------------------------------------

# A warning of gcc is an error where we look (CI), not on a user's newer compiler.
WERROR=()
[ -z "${CI:-}" ] || WERROR=(--werror)

# build DIR [MESON_ARGUMENT...]: set up DIR once and build it; the program is DIR/wsurg
build() {
    local dir=$1 log=$1/build.log begin=$SECONDS
    shift
    mkdir -p "$dir"
    if [ ! -f "$dir/build.ninja" ] &&
        ! meson setup "$dir" "$@" </dev/null >"$log" 2>&1; then
        tail -n 30 "$log"
        say "could not configure $dir"
        return 1
    fi
    if ! ninja -C "$dir" </dev/null >"$log" 2>&1; then
        grep -E 'error:|undefined reference|^FAILED' "$log" | head -n 40
        say "could not build $dir"
        return 1
    fi
    say "built $dir in $((SECONDS - begin)) s"
}

# ---- counting ----------------------------------------------------------------------

PASSED=0 FAILED=0 SKIPPED=0

count() { # passed failed skipped
    PASSED=$((PASSED + $1)) FAILED=$((FAILED + $2)) SKIPPED=$((SKIPPED + $3))
}

# result STATUS NAME: one test of our own; status 77 is a skip
result() {
    case $1 in
    0) count 1 0 0 && say "ok      $2" ;;
    77) count 0 0 1 && say "skipped $2" ;;
    *) count 0 1 0 && say "FAILED  $2" ;;
    esac
}

# closing_line FILE: the numbers of the last 'N passed, N failed, N skipped' in it
closing_line() {
    sed -nE 's/^([a-z]+: )?([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\2 \3 \4/p' \
        "$1" | tail -n 1
}

# finish: the closing line, and the exit status that goes with it
finish() {
    echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
    [ "$FAILED" -eq 0 ] && [ "$PASSED" -gt 0 ]
    exit
}
