# lib.sh - timing and figures for the benchmarks
#
# Sourced with `work` naming a scratch folder.

# timed COMMAND...: its wall time in seconds on standard output; its status is kept
timed() {
    local begin=${EPOCHREALTIME/,/.} status=0
    "$@" >&2 || status=$?
    awk -v a="$begin" -v b="${EPOCHREALTIME/,/.}" 'BEGIN { printf "%.3f\n", b - a }'
    return $status
}

median() {
    printf '%s\n' "$@" | sort -g |
        awk '{ v[NR] = $1 } END { printf "%.3f\n", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }

# json_number FILE KEY: the first number under that key
json_number() { grep -oE "\"$2\": ?[0-9.]+" "$1" | head -n 1 | grep -oE '[0-9.]+$'; }

# bytes_of FILE...: the sum of their sizes
bytes_of() { stat -L -c %s "$@" | awk '{ n += $1 } END { printf "%.0f\n", n }'; }

# drop_cache FILE...: posix_fadvise(DONTNEED) on each, by way of dd
drop_cache() {
    local file
    for file in "$@"; do
        dd if="$file" iflag=nocache count=0 status=none
    done
}

compile_mkllama() {
    [ -x "$work/mkllama" ] ||
        "${CC:-cc}" -std=c17 -D_POSIX_C_SOURCE=200809L -O3 -o "$work/mkllama" \
            tests/bench/mkllama.c -lm -pthread
}

# machine: a line that says where the numbers come from
machine() {
    printf '%s, %s; %s; Linux %s; load %s\n\n' "$(nproc) cores" \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
        "$(date -u +%Y-%m-%d)" "$(uname -r)" "$(cut -d' ' -f1 /proc/loadavg)"
}
