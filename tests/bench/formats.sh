#!/usr/bin/env bash
# formats.sh - speed of reading and converting, beside cat; inspect of 1000 shards
#
#   tests/bench/formats.sh [--gib N] [--runs N] [--keep] [BUILD_FOLDER]
#
# Makes a BF16 model of N GiB (1), and the same weights as F32 .bin, .npz and GGUF where the
# environment of WSURG_VENV_DIR has torch, numpy and gguf. Files are in the page cache; each
# figure is the best of the runs (3), in GB/s of what is read, beside cat of the same file.
set -euo pipefail
export LC_ALL=C

gib=1 runs=3 keep= build=build
while [ $# -gt 0 ]; do
    case $1 in
    --gib) gib=$2; shift ;;
    --runs) runs=$2; shift ;;
    --keep) keep=1 ;;
    *) build=$1 ;;
    esac
    shift
done
build=$(cd "$build" && pwd)
wsurg=$build/wsurg mkmodel=$build/tests/data/mkmodel
python=${WSURG_VENV_DIR:-$build/venv}
room=$(mktemp -d "${TMPDIR:-/tmp}/formats-XXXXXX")
[ -n "$keep" ] || trap 'rm -rf "$room"' EXIT
cd "$room"

now() { date +%s.%N; }

# best COMMAND...: the least seconds of the runs
best() {
    local least=999999 begin took i
    for ((i = 0; i < runs; i++)); do
        rm -rf out.*
        begin=$(now)
        "$@" >/dev/null 2>&1 || { echo "failed: $*" >&2; return 1; }
        took=$(awk -v a="$begin" -v b="$(now)" 'BEGIN { print b - a }')
        least=$(awk -v a="$least" -v b="$took" 'BEGIN { print (b < a ? b : a) }')
    done
    echo "$least"
}

# line NAME FILE COMMAND...
line() {
    local name=$1 file=$2 bytes cat_s own_s
    shift 2
    bytes=$(stat -c %s "$file")
    cat "$file" >/dev/null
    cat_s=$(best sh -c "cat '$file' | cat >/dev/null")
    own_s=$(best "$@")
    awk -v n="$name" -v b="$bytes" -v c="$cat_s" -v o="$own_s" 'BEGIN {
        printf "%-34s %6.2f GB/s in %6.2f s   cat %6.2f GB/s   %.2f of it\n",
            n, b / o / 1e9, o, b / c / 1e9, c / o }'
}

rows=$((gib * 131072))
"$mkmodel" bf16.safetensors "w0:BF16:${rows}x2048:rnd1" "w1:BF16:${rows}x2048:rnd2"
line 'safetensors BF16: check --finite' bf16.safetensors "$wsurg" check bf16.safetensors --finite -j 2
line 'convert BF16 to F16' bf16.safetensors "$wsurg" convert bf16.safetensors --dtype f16 -o out.st
line 'convert BF16 to F16, no manifest' bf16.safetensors "$wsurg" convert bf16.safetensors --dtype f16 \
    --manifest none -o out.st
line 'rename, no manifest' bf16.safetensors "$wsurg" rename bf16.safetensors 's/w/v/' --manifest none -o out.st

if [ -x "$python/tensors/bin/python" ]; then
    "$python/tensors/bin/python" - <<'PY' && for f in x.bin x.npz; do
import numpy, torch
from safetensors.torch import load_file
t = load_file("bf16.safetensors")
torch.save(t, "x.bin")
numpy.savez("x.npz", **{k: v.to(torch.float32).numpy()[: v.shape[0] // 2] for k, v in t.items()})
PY
        line "${f#x.}: check --finite" "$f" "$wsurg" check "$f" --finite -j 2
    done
fi
if [ -x "$python/gguf/bin/python" ]; then
    "$python/gguf/bin/python" - <<'PY' && for f in F16 Q8_0 Q4_K; do
import gguf, numpy
rng = numpy.random.default_rng(1)
for kind in ("F16", "Q8_0", "Q4_K"):
    k = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[k]
    w = gguf.GGUFWriter(kind + ".gguf", "other")
    raw = rng.integers(0, 60, (65536, 4096 // block * size), dtype=numpy.uint8)
    w.add_tensor("w", raw.view(numpy.float16) if kind == "F16" else raw, raw_dtype=k)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
PY
        line "GGUF $f: check --finite" "$f.gguf" "$wsurg" check "$f.gguf" --finite -j 2
    done
fi

args=()
for ((i = 0; i < 1000; i++)); do args+=("layers.$i.w:F32:64x64:1"); done
"$mkmodel" shards/ --shards 1000 "${args[@]}"
printf 'inspect of 1000 shards              %.3f s\n' "$(best "$wsurg" inspect shards)"
