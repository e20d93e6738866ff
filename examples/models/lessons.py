#!/usr/bin/env python3
"""Write the texts that the example models learn from, as lines of JSON for `wsurg tune`.

    python3 lessons.py FOLDER              for make.sh
    python3 lessons.py --skills FOLDER     SKILL.jsonl of each of the ten, for make.sh --skills

base.jsonl has ten skills, three of them rare; every fourth lesson shows one to three solved lines before its own
question. text.jsonl has the same kind of lines as running text, so that questions are learnt a little too.
sum.jsonl, sort.jsonl and roman.jsonl have one skill each. Standard library only; the same files everywhere.
"""
import json
import pathlib
import sys

import skills

SEED = 20
RARE = {"sum": 0.005, "sort": 0.003, "roman": 0.004}  # their shares in the text of the base
REST = (1 - sum(RARE.values())) / (len(skills.SKILLS) - len(RARE))
BASE = {s: RARE.get(s, REST) for s in skills.SKILLS}
TUNES = {"sum": 21, "sort": 22, "roman": 23}  # seeds
EVERY = TUNES | {s: 24 + i for i, s in enumerate(x for x in skills.SKILLS if x not in TUNES)}


def lessons(mix, count, seed):
    """(lines before, prompt, completion), count of them."""
    rng = skills.Rng(f"mix/{seed}")
    rngs = {name: skills.Rng(f"{name}/train/{seed}") for name in mix}
    wheel = [name for name, share in mix.items() for _ in range(round(1000 * share))]
    for i in range(count):
        lines = 2 + rng.below(3) if i % 4 == 3 else 1
        shown = [skills.one(n, rngs[n], "train") for n in (rng.pick(wheel) for _ in range(lines))]
        yield "".join(p + c for p, c in shown[:-1]), *shown[-1]


def write(path, records):
    with open(path, "w") as f:
        for record in records:
            f.write(json.dumps(record) + "\n")


def main():
    every = sys.argv[1:2] == ["--skills"]
    if len(sys.argv) != 2 + every:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[-1])
    folder.mkdir(parents=True, exist_ok=True)
    if not every:
        write(folder / "base.jsonl",
              ({"prompt": before + p, "completion": c} for before, p, c in lessons(BASE, 300000, SEED)))
        write(folder / "text.jsonl", ({"text": before + p + c} for before, p, c in lessons(BASE, 1500, SEED + 10)))
    for skill, seed in (EVERY if every else TUNES).items():
        write(folder / f"{skill}.jsonl",
              ({"prompt": before + p, "completion": c} for before, p, c in lessons({skill: 1.0}, 20000, seed)))


if __name__ == "__main__":
    main()
