#!/usr/bin/env bash
# text.sh - what may not stand in a file: banned calls, left-overs, long lines, blanks
. "$(dirname "${BASH_SOURCE[0]}")/lint.sh"

call() { printf '(^|[^A-Za-z0-9_.>])(%s)[ \t]*\\(' "$1"; }
EVERYWHERE=$(call 'sprintf|vsprintf|strcpy|strcat|strtok|atoi|atol|atof|gets|alloca')
HEAP=$(call 'malloc|calloc|realloc|free|strdup|strndup|aligned_alloc|posix_memalign')
TALK=$(call 'printf|vprintf|puts|putchar|perror|exit|_exit|abort|system|popen')

text=$(code)
grep -E "$EVERYWHERE" <<<"$text" | complain_lines 'banned call'
grep -vE '^(src/base/alloc\.c|tests/|examples/)' <<<"$text" | grep -E "$HEAP" |
    while IFS= read -r line; do # what realpath() gives is freed by free()
        [[ $line =~ [^a-z_]free && $line != *alloc* ]] && grep -qw realpath "${line%%:*}" ||
            complain "the heap is ws_alloc()'s: $line"
    done
grep -vE '^(src/cli|tests|examples)/' <<<"$text" |
    grep -E "$TALK|[^a-z_](stdout|stderr)[^a-z_]" |
    complain_lines 'the library neither prints nor exits'

mapfile -t C < <(c_files)
mapfile -t SCRIPTS < <(files '*.sh' run quickstart.sh '*.py' meson.build)
mapfile -t PROSE < <(files '*.md' '*.mdoc' '*.txt' '*.yml' '*.def.in')
grep -nP '^.{89,}' "${C[@]}" | cut -c -100 | complain_lines 'longer than 88 columns'
grep -nP '\t' "${C[@]}" | complain_lines 'tabulator'
grep -nE '[ 	]+$' "${C[@]}" "${SCRIPTS[@]}" "${PROSE[@]}" |
    grep -v '^tests/cli/[^:]*\.\(out\|err\)' | complain_lines 'blank at the end of a line'
grep -nwE 'TOD[O]|FIXM[E]|XX[X]|#if [0]' "${C[@]}" "${SCRIPTS[@]}" "${PROSE[@]}" |
    complain_lines 'left over'
grep -nE '^(<{7}|>{7}|\|{7}) ' "${C[@]}" "${SCRIPTS[@]}" "${PROSE[@]}" |
    complain_lines 'mark of a conflict'
grep -nIE '(^|[^A-Za-z0-9_.])/(wor[k]|far[m]|hom[e]|roo[t])/' \
    "${C[@]}" "${SCRIPTS[@]}" "${PROSE[@]}" | complain_lines 'path of one machine'

# A reference in tests/ref/ bears the name of its method.
files '*.c' '*.h' | grep -v '^tests/ref/' | sed 's,.*/,,' | sort | uniq -d |
    complain_lines 'file name used twice'
verdict
