# lint.sh - what the lint tests share: the list of files, and complaints
#
# Sourced by each test with the repository as its working directory.

set -uo pipefail
shopt -s lastpipe # the last part of a pipe counts complaints in this shell
export LC_ALL=C.UTF-8
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

COMPLAINTS=0

complain() {
    printf '%s\n' "$*"
    COMPLAINTS=$((COMPLAINTS + 1))
}

# complain_lines TITLE: each line of standard input is one complaint
complain_lines() {
    local line
    while IFS= read -r line; do
        complain "$1: $line"
    done
}

verdict() {
    [ "$COMPLAINTS" -eq 0 ] && exit 0
    echo "$COMPLAINTS complaints"
    exit 1
}

# files NAME_PATTERN... : the project's own files with such names, sorted
files() {
    local names=() pattern
    for pattern in "$@"; do
        names+=(-o -name "$pattern")
    done
    find . \( -path ./.git -o -name 'build*' -type d -o -name .cache -o -name __pycache__ \
        \) -prune -o -type f \( "${names[@]:1}" \) -print | sed 's,^\./,,' | sort
}

c_files() { files '*.c' '*.h'; }

# code: 'FILE:line' of all C files without comments; string literals stay. One compiler
# reads them all, each behind a line that names it.
code() {
    c_files | while IFS= read -r file; do
        printf '"@@%s";\n' "$file"
        cat "$file"
        echo
    done | "${CC:-cc}" -fpreprocessed -dD -E -P -w -x c - 2>/dev/null |
        awk '/^"@@/ { split($0, part, "\""); name = substr(part[2], 3); next } { print name ":" $0 }'
}
