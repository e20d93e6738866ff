#!/usr/bin/env bash
# headers.sh - each public header compiles alone and twice, in C and in C++
. "$(dirname "${BASH_SOURCE[0]}")/lint.sh"

STRICT=(-Wall -Wextra -Werror -fsyntax-only -Iinclude)

# try HEADER COMPILER LANGUAGE OPTION...
try() {
    local said
    said=$(printf '#include "%s"\n#include "%s"\nextern int not_empty;\n' "$1" "$1" |
        "$2" -x "$3" "${@:4}" "${STRICT[@]}" - 2>&1) ||
        complain "$1 does not compile alone as $3: $(grep -m 1 error: <<<"$said")"
}

for header in include/wsurg/*.h; do
    try "${header#include/}" "${CC:-cc}" c -std=c17 -Wpedantic
    ! c++ --version >/dev/null 2>&1 || try "${header#include/}" c++ c++ -std=c++17
done

# Declarations of a C library keep their names in C++.
for header in include/wsurg/*.h; do
    if grep -q '^WS_API' "$header" && ! grep -q 'extern "C"' "$header"; then
        complain "$header declares functions without extern \"C\" for C++"
    fi
done
verdict
