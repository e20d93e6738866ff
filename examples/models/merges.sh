#!/usr/bin/env bash
# merges.sh - what merges of the three fine-tunes know: the table in README.md
#
#   examples/models/merges.sh [WSURG]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wsurg=$(realpath "$(command -v "${1:-wsurg}")")
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cd "$work"

data=()
for skill in sum sub sort reverse roman brackets lookup count max shift; do
    python3 "$here/skills.py" --skill $skill --split eval --count 300 --jsonl >$skill.jsonl
    data+=(--data "$skill=$skill.jsonl")
done

# merge NAME OPTION...: all three onto the base
names=()
merge() {
    names+=("$1")
    "$wsurg" merge --base "$here/base" "$here/sums" "$here/sorting" "$here/romans" \
        -q -o "$1/" "${@:2}"
}
merge task_arithmetic,0.5 --method task_arithmetic --set lambda=0.5
merge task_arithmetic,lines --method task_arithmetic --lines auto,auto
merge ties --method ties
merge ties,lines --method ties --lines 0.5,0.5
merge breadcrumbs --method breadcrumbs
merge breadcrumbs,0.9,lines --method breadcrumbs --set density=0.9 --set gamma=0.01 \
    --lines 0.5,0.5
"$wsurg" eval "$here/base" "$here/sums" "$here/sorting" "$here/romans" "${names[@]}" \
    "${data[@]}" -q --json=eval.json >/dev/null
python3 - <<'P'
import json

print("| loss per answer token | sum | sort | roman | the other seven | mean |\n" + "|---" * 6 + "|")
for model in json.load(open("eval.json"))["result"]["models"]:
    loss = {d["name"]: d["loss"] for d in model["data"]}
    learnt = [loss.pop(name) for name in ("sum", "sort", "roman")]
    cells = [*learnt, sum(loss.values()) / 7, (sum(learnt) + sum(loss.values())) / 10]
    print(f"| {model['label']} | " + " | ".join(f"{x:.3f}" for x in cells) + " |")
P
