#!/usr/bin/env python3
"""Ten small skills with exact answers: the text the example models are trained on.

    python3 skills.py --skill sum --split train --count 5 --seed 1
    python3 skills.py --skill all --split eval --count 200 --jsonl > eval.jsonl

Each example is one line, a prompt that ends in " =" and its answer. With --jsonl it is an object
{"prompt", "completion"}; the completion starts with the space and ends with the newline, so that
prompt + completion is the line. A prompt belongs to the eval split when its hash says so (one in ten),
to the train split otherwise: the two never share a prompt. The eval split repeats no prompt and may end
early. Standard library only; the same seed gives the same text everywhere.
"""
import argparse
import hashlib
import json
import sys

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("red box sun cat map tin oak sea ice owl jam kit log net pen rug van web "
         "fox hat bus elm gym dog key yak").split()
ROMAN = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
         (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]


class Rng:
    """SplitMix64, keyed by a string: tiny, and the same in every version of Python."""

    def __init__(self, key):
        self.state = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return ((z ^ (z >> 31)) * n) >> 64

    def between(self, low, high):
        return low + self.below(high - low + 1)

    def pick(self, items):
        return items[self.below(len(items))]

    def sample(self, items, k):
        pool = list(items)
        return [pool.pop(self.below(len(pool))) for _ in range(k)]


def sum_(r):
    a, b = r.between(10, 99), r.between(10, 99)
    return f"{a}+{b}", str(a + b)


def sub(r):
    b, a = sorted((r.between(10, 99), r.between(10, 99)))
    return f"{a}-{b}", str(a - b)


def sort(r):
    letters = r.sample(LETTERS, r.between(3, 7))
    return " ".join(letters), " ".join(sorted(letters))


def reverse(r):
    words = [r.pick(WORDS) for _ in range(r.between(3, 6))]
    return " ".join(words), " ".join(reversed(words))


def roman(r):
    n = left = r.between(1, 3999)
    out = ""
    for value, digits in ROMAN:
        out += digits * (left // value)
        left %= value
    return str(n), out


def brackets(r):
    """An unfinished row of brackets; the answer closes it."""
    close = {"(": ")", "[": "]", "{": "}"}
    shown, stack = [], []
    for _ in range(r.between(4, 9)):
        if stack and r.below(5) < 2:
            shown.append(close[stack.pop()])
        elif len(stack) < 5:
            stack.append(r.pick("([{"))
            shown.append(stack[-1])
    if not stack:
        stack.append(r.pick("([{"))
        shown.append(stack[-1])
    return " ".join(shown), " ".join(close[b] for b in reversed(stack))


def lookup(r):
    keys = r.sample(LETTERS, r.between(3, 6))
    table = {k: r.below(10) for k in keys}
    key = r.pick(keys)
    return " ".join(f"{k}{table[k]}" for k in keys) + f" ? {key}", str(table[key])


def count(r):
    kinds = r.sample(LETTERS, 3)
    row = [r.pick(kinds) for _ in range(r.between(3, 9))]
    key = r.pick(kinds)
    return " ".join(row) + f" ? {key}", str(row.count(key))


def largest(r):
    numbers = [r.between(10, 99) for _ in range(r.between(2, 4))]
    return " ".join(map(str, numbers)), str(max(numbers))


def shift(r):
    """Every letter becomes the next one of the alphabet, and z becomes a."""
    letters = [r.pick(LETTERS) for _ in range(r.between(3, 7))]
    return " ".join(letters), " ".join(LETTERS[(LETTERS.index(x) + 1) % 26] for x in letters)


SKILLS = {"sum": sum_, "sub": sub, "sort": sort, "reverse": reverse, "roman": roman, "brackets": brackets,
          "lookup": lookup, "count": count, "max": largest, "shift": shift}


def held_out(prompt):
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[8:12], "little") % 10 == 0


def one(skill, rng, split):
    """The next (prompt, completion) of a skill that belongs to the split."""
    while True:
        question, answer = SKILLS[skill](rng)
        prompt = f"{skill}: {question} ="
        if held_out(prompt) == (split == "eval"):
            return prompt, f" {answer}\n"


def examples(skill, split, n, seed):
    """n examples of one skill, or of "all" in turn; the eval split without repeats."""
    names = list(SKILLS) if skill == "all" else [skill]
    rngs = {name: Rng(f"{name}/{split}/{seed}") for name in names}
    seen, misses = set(), 0
    while n > 0 and misses < 1000:
        for name in names[:n]:
            prompt, completion = one(name, rngs[name], split)
            if split == "eval" and prompt in seen:
                misses += 1
                continue
            if split == "eval":
                seen.add(prompt)
            misses, n = 0, n - 1
            yield prompt, completion


def main():
    p = argparse.ArgumentParser(description="Write examples of small skills with exact answers.")
    p.add_argument("--skill", default="all", choices=["all", *SKILLS])
    p.add_argument("--split", default="train", choices=["train", "eval"])
    p.add_argument("--count", type=int, default=10)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--jsonl", action="store_true", help='write {"prompt", "completion"} objects')
    args = p.parse_args()
    for prompt, completion in examples(args.skill, args.split, args.count, args.seed):
        if args.jsonl:
            print(json.dumps({"prompt": prompt, "completion": completion}))
        else:
            sys.stdout.write(prompt + completion)


if __name__ == "__main__":
    main()
