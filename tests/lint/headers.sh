#!/usr/bin/env bash
# headers.sh - each public header compiles alone and twice, in C and in C++
. "$(dirname "${BASH_SOURCE[0]}")/lint.sh"

STRICT=(-Wall -Wextra -Wpedantic -Werror -fsyntax-only -Iinclude)

# try HEADER COMPILER LANGUAGE STANDARD
try() {
    local said
    said=$(printf '#include "%s"\n#include "%s"\nextern int not_empty;\n' "$1" "$1" |
        "$2" -x "$3" "-std=$4" "${STRICT[@]}" - 2>&1) ||
        complain "$1 does not compile alone as $4: $(grep -m 1 error: <<<"$said")"
}

for header in include/wsurg/*.h; do
    try "${header#include/}" "${CC:-cc}" c c17
    ! c++ --version >/dev/null 2>&1 || try "${header#include/}" c++ c++ c++17
done

# Declarations of a C library keep their names in C++.
for header in include/wsurg/*.h; do
    if grep -q '^WS_API' "$header" && ! grep -q 'extern "C"' "$header"; then
        complain "$header declares functions without extern \"C\" for C++"
    fi
done
verdict
