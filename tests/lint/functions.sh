#!/usr/bin/env bash
# functions.sh - no function is longer than 80 lines (needs Universal Ctags)
. "$(dirname "${BASH_SOURCE[0]}")/lint.sh"

if ! ctags --version 2>/dev/null | grep -q '^Universal Ctags'; then
    echo 'no Universal Ctags here'
    exit 77
fi
c_files | ctags -L - --languages=C --langmap=C:.c.h --kinds-C=f --fields=+ne -f - |
    awk -F'\t' '{
        first = last = 0
        for (i = 4; i <= NF; i++) {
            if ($i ~ /^line:/) first = substr($i, 6)
            if ($i ~ /^end:/) last = substr($i, 5)
        }
        if (first && last && last - first + 1 > 80)
            print $2 ":" first ": " $1 " has " last - first + 1 " lines"
    }' | complain_lines 'longer than 80 lines'
verdict
