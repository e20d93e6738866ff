#!/usr/bin/env bash
# includes.sh - every #include keeps to the arrows of the design
#
#   base <- dtype <- ckpt, linalg <- hf <- engine <- model <- train <- surgery <- cli
#
# A folder sees itself and what is left of it; ckpt and linalg do not see each other.
# merges/ sees only wsurg/method.h; cli sees only public headers. A public header counts
# as part of the folder that implements it.
. "$(dirname "${BASH_SOURCE[0]}")/lint.sh"

declare -A RANK=([base]=0 [dtype]=1 [ckpt]=2 [linalg]=2 [hf]=3 [engine]=4 [model]=5
    [train]=6 [surgery]=7 [cli]=8)

# Which folder implements a public header. A new header needs its row.
declare -A HOME_OF=([export]=base [err]=base [alloc]=base [text]=base [ctx]=base
    [random]=base [xxh]=base [dtype]=dtype [ckpt]=ckpt [digest]=ckpt [manifest]=ckpt [spool]=ckpt [method]=engine
    [merge]=engine [recipe]=engine [compare]=engine [gates]=engine [pattern]=hf [linalg]=linalg [wsurg]=engine
    [adapter]=hf [source]=hf [vocab]=hf [lora]=surgery
    [calibrate]=surgery [convert]=surgery [edit]=surgery [decompose]=surgery [extract]=surgery
    [atlas]=surgery [mask]=surgery [realign]=surgery [taskvec]=surgery [model]=model [eval]=model [generate]=model
    [tokenizer]=model [chat]=train [data]=train [questions]=train [train]=train)

# Where another project's header may be included, as an extended regular expression.
declare -A GUEST=([cblas.h]='src/linalg/' [lapacke.h]='src/linalg/'
    [openblas_config.h]='src/linalg/' [cjson/cJSON.h]='src/base/json|src/(ckpt|hf|cli)/'
    [openssl/evp.h]='src/(base|ckpt)/' [xxhash.h]='src/(base|ckpt)/' [pcre2.h]='src/(base|engine|hf|model)/'
    [zlib.h]='src/ckpt/' [yaml.h]='src/engine/' [utf8proc.h]='src/model/'
    [cmocka.h]='tests/')

LIBC=' assert.h complex.h ctype.h dirent.h errno.h fcntl.h fenv.h float.h fnmatch.h getopt.h
inttypes.h limits.h locale.h math.h poll.h pthread.h sched.h setjmp.h signal.h
stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h
dlfcn.h stdnoreturn.h string.h strings.h tgmath.h time.h uchar.h unistd.h wchar.h wctype.h
immintrin.h atomic '
LIBC=" ${LIBC//$'\n'/ } "

# part FILE: PART is the folder of the arrows that FILE belongs to; empty for tests and
# programs
part() {
    local name
    PART=
    case $1 in
    src/*/*) name=${1#src/} && PART=${name%%/*} ;;
    include/wsurg/*) name=${1##*/} && PART=${HOME_OF[${name%.h}]:-unknown} ;;
    merges/*) PART=merges ;;
    esac
}

# target FILE NAME: TARGET is the file that #include "NAME" in FILE names; empty when
# generated
target() {
    for TARGET in "${1%/*}/$2" "include/$2" "src/$2"; do
        [ ! -f "$TARGET" ] || return
    done
    TARGET=
}

check_own() { # FILE NAME
    local from to path
    part "$1" && from=$PART
    target "$1" "$2"
    path=$TARGET
    [[ $1 == tests/* || $2 != *../* ]] || complain "$1: \"$2\" climbs out of its folder"
    case $path in '') # made by meson
        case $2 in
        ws_config.h | *.def) return ;;
        *) [ -z "$from" ] || complain "$1: includes \"$2\", which is not there" && return ;;
        esac
        ;;
    esac
    [ -n "$from" ] || return
    part "$path" && to=$PART
    if [ "$from" = merges ]; then
        [ "$path" = include/wsurg/method.h ] ||
            complain "$1: a method includes only wsurg/method.h, not \"$2\""
    elif [ "$from" = cli ] && [[ $path != include/wsurg/* && $path != src/cli/* ]]; then
        complain "$1: cli includes only public headers, not \"$2\""
    elif [ "$from" = unknown ] || [ "$to" = unknown ]; then
        complain "$1: \"$2\": no home is named for one of them in tests/lint/includes.sh"
    elif [ "$from" != "$to" ] && [ "${RANK[$from]:-9}" -le "${RANK[$to]:-9}" ]; then
        complain "$1: $from may not include \"$2\", which is part of $to"
    fi
}

check_guest() { # FILE NAME
    case $LIBC in *" $2 "*) return ;; esac
    case $2 in sys/* | linux/*) [[ $1 == merges/* ]] || return ;; esac
    local where=${GUEST[$2]:-}
    if [ -z "$where" ]; then
        complain "$1: <$2> is not in the list of tests/lint/includes.sh"
    elif ! [[ $1 =~ ^($where) || $1 =~ ^tests/ ]]; then
        complain "$1: <$2> belongs to $where"
    fi
}

mapfile -t C < <(c_files)
while read -r file name; do
    case $name in
    '"'*) check_own "$file" "${name//\"/}" ;;
    '<'*) name=${name#<} && check_guest "$file" "${name%>}" ;;
    esac
done < <(awk '/^[ \t]*#[ \t]*include[ \t]*["<]/ { match($0, /["<][^">]+[">]/)
    print FILENAME, substr($0, RSTART, RLENGTH) }' "${C[@]}")

grep -lE '^#define _GNU_SOURCE' "${C[@]}" |
    grep -vE '^(src/base/os|src/(ckpt|hf)/|tests/)' |
    complain_lines '_GNU_SOURCE outside src/base/os*.c and checkpoint files'
verdict
