#!/usr/bin/env bash
# selftest.sh - each lint test complains about a tree that is wrong in its way
. "$(dirname "${BASH_SOURCE[0]}")/lint.sh"

room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
lint=$PWD/tests/lint

# caught TEST PATTERN FILE TEXT: with TEXT in FILE, TEST fails and says PATTERN
caught() {
    local tree=$room/tree said
    rm -rf "$tree"
    mkdir -p "$tree/tests/lint" "$tree/$(dirname "$3")" "$tree/include/wsurg" "$tree/src/base"
    cp "$lint"/*.sh "$tree/tests/lint/"
    touch "$tree/include/wsurg/merge.h" "$tree/src/base/x.h"
    printf "$4" >"$tree/$3"
    if said=$("$tree/tests/lint/$1.sh") || ! grep -q "$2" <<<"$said"; then
        complain "$1.sh does not say '$2' of $3: $said"
    fi
}

caught includes 'base may not include' src/base/x.c '#include "wsurg/merge.h"\n'
caught includes 'only wsurg/method.h' merges/x.c '#include "wsurg/merge.h"\n'
caught includes 'only public headers' src/cli/x.c '#include "base/x.h"\n'
caught includes 'belongs to src/linalg' src/engine/x.c '#include <cblas.h>\n'
caught includes 'climbs out' src/engine/x.c '#include "../base/x.h"\n'
caught headers 'does not compile' include/wsurg/x.h 'size_t n;\n'
caught text 'banned call' src/base/x.c 'void f(void)\n{\n    strcp''y(a, b);\n}\n'
caught text 'ws_alloc' src/base/x.c 'void *f(void)\n{\n    return malloc(1);\n}\n'
caught text 'neither prints' src/base/x.c 'void f(void)\n{\n    puts("");\n}\n'
caught text 'left over' src/base/x.c '// TOD''O\n'
caught text '88 columns' src/base/x.c "// $(printf '%090d' 0)\n"
caught text 'end of a line' src/base/x.c 'int a; \n'
caught text 'mark of a conflict' x.md '<<<<''<<< HEAD\n'
caught text 'used twice' src/base/merge.h '\n'
caught folders 'no README' src/base/x.c '\n'
if ctags --version 2>/dev/null | grep -q '^Universal'; then
    caught functions 'longer than 80' src/base/x.c \
        "void f(void)\n{\n$(printf '    a();\\n%.0s' {1..90})}\n"
fi
verdict
