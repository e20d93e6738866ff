#!/usr/bin/env bash
# adapters.sh - two LoRAs learnt apart, looked at, combined, folded, and checked
#
#   examples/pipelines/adapters.sh OUT_FOLDER [WSURG]
#
# The base of the example models learns sums in one adapter and sorting in another. The
# two are added exactly and in aligned coordinates, folded only if rounding loses next to
# nothing, and the folds are proved to be that before they are measured.
set -euo pipefail
models=$(cd "$(dirname "${BASH_SOURCE[0]}")/../models" && pwd)
out=$1
wsurg=${2:-wsurg}

for skill in sum sort; do
    python3 "$models/skills.py" --skill "$skill" --split train --count 400 --jsonl >"$out/$skill.jsonl"
    python3 "$models/skills.py" --skill "$skill" --split eval --count 50 --jsonl >"$out/$skill.eval.jsonl"
    [ -d "$out/$skill" ] || "$wsurg" tune "$models/base" --lora --rank 8 --data "$out/$skill.jsonl" \
        --steps 30 --batch 4 --seq 64 --lr 1e-2 --resume -q -o "$out/$skill/"
done

# What they are: targets, ranks, norms, and directions that the base does not have.
"$wsurg" inspect "$out/sum" --intruders "$models/base" | grep -v '^metadata'
"$wsurg" lora soften "$models/base" "$out/sum" --lambda 0.5 --force -o "$out/gentle/"

# Added exactly (ranks add up); cut to rank 8, with the error stated; TIES between them.
"$wsurg" lora combine "$out/sum" "$out/sort" --force -o "$out/added/"
"$wsurg" lora combine "$out/sum" "$out/sort" --rank 8 --force -o "$out/cut/"
"$wsurg" lora combine "$out/sum" "$out/sort" --method ties --density 0.5 --force -o "$out/elected/"

# The exact sum of adapters folds to what the adapters fold to one by one.
"$wsurg" lora fold "$models/base" "$out/added" --max-lost-delta 5% --force -o "$out/model/"
"$wsurg" lora verify "$models/base" "$out/sum" "$out/sort" "$out/model" --ulps 1

# No fold is needed to use an adapter: BASE+ADAPTER is a model.
"$wsurg" eval "$models/base" "$out/model" "$models/base+$out/cut" "$models/base+$out/elected" \
    --data sum="$out/sum.eval.jsonl" --data sort="$out/sort.eval.jsonl"
"$wsurg" merge "$models/base+$out/sum" "$models/base+$out/sort" --base "$models/base" \
    --method ties --force -q -o "$out/merged/"
