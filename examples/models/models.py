#!/usr/bin/env python3
"""What stands beside the training of the example models: their tokenizer, and the table of what they can do.

    python3 models.py tokenizer    base/tokenizer.json, from the lessons
    python3 models.py table        loss and exact match of all models and of some merges, into README.md
    python3 models.py check        load the directories in transformers: every tensor, every id, an answer

The models themselves are made by make.sh, with wsurg alone.
"""
import json
import os
import pathlib
import sys

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import skills

logging.disable_progress_bar()
HERE = pathlib.Path(__file__).resolve().parent
SEED, VOCAB = 20, 432
TUNES = {"sums": "sum", "sorting": "sort", "romans": "roman"}  # directory: skill
UNK, BOS, EOS = "<unk>", "<s>", "</s>"


def make_tokenizer():
    """BPE with byte fallback on "▁" for spaces, in the manner of Llama; digits and capitals stay single."""
    special = [UNK, BOS, EOS]
    learn = Tokenizer(models.BPE())
    learn.normalizer = normalizers.Replace(" ", "▁")
    learn.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Split(Regex("[0-9A-Z+]"), "isolated")])
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, show_progress=False,
                                  special_tokens=special + [f"<0x{i:02X}>" for i in range(256)])
    lines = [(p + c).rstrip("\n") for p, c in skills.examples("all", "train", 40000, SEED)]
    learn.train_from_iterator(lines, trainer)
    learned = json.loads(learn.to_str())["model"]
    tok = Tokenizer(models.BPE(vocab=learned["vocab"], merges=[tuple(m) for m in learned["merges"]],
                               unk_token=UNK, fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.add_special_tokens(special)
    tok.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B",
                                                       special_tokens=[(BOS, 1)])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    assert tok.get_vocab_size() == VOCAB
    return tok


def load(name):
    return AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32).eval()


def weights(name):
    return {k: v.float() for k, v in load_file(HERE / name / "model.safetensors").items()}


def tokens(tok, lines, prompt_weight):
    """One document of lines as (ids, weights): the weight of a token is that of its prediction."""
    ids, weights = [1], [0.0]
    for prompt, completion in lines:
        n = len(ids)
        ids += tok.encode(prompt + completion, add_special_tokens=False).ids
        weights += [prompt_weight] * len(tok.encode(prompt, add_special_tokens=False).ids)
        weights += [1.0] * (len(ids) - len(weights))
    return ids + [2], weights + [prompt_weight or 1.0]


def batch_of(documents):
    """Padded to the longest: inputs, targets, weights. Padding follows the text, so the causal mask hides it."""
    longest = max(len(ids) for ids, _ in documents)
    ids = torch.tensor([i + [2] * (longest - len(i)) for i, _ in documents])
    weights = torch.tensor([w + [0.0] * (longest - len(w)) for _, w in documents])
    return ids[:, :-1], ids[:, 1:], weights[:, 1:]


def losses(model, inputs, targets):
    logits = model(input_ids=inputs).logits
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets), logits


@torch.no_grad()
def score(model, tok, skill, n=300):
    """(loss per answer token, share of answers that are exactly right when decoded greedily)."""
    documents = [tokens(tok, [x], 0.0) for x in skills.examples(skill, "eval", n, SEED)]
    inputs, targets, weights = batch_of([(ids[:-1], w[:-1]) for ids, w in documents])
    loss, logits = losses(model, inputs, targets)
    # Greedy decoding gives the answer if and only if each of its tokens is the likeliest one after the true ones.
    right = ((logits.argmax(-1) == targets) | (weights == 0)).all(-1)
    return (loss * weights).sum().item() / weights.sum().item(), right.float().mean().item()


def merged(base, names, scale):
    """Task arithmetic: base + scale * sum(tune - base), rounded to BF16."""
    tunes, model = [weights(n) for n in names], load("base")
    model.load_state_dict({k: (v + scale * sum(t[k] - v for t in tunes)).to(torch.bfloat16).float()
                           for k, v in base.items()}, strict=False)
    model.tie_weights()
    return model


def table():
    tok = Tokenizer.from_file(str(HERE / "base" / "tokenizer.json"))
    base, names = weights("base"), list(TUNES)
    rows = {"base": load("base"), **{n: load(n) for n in names}}
    for group in (names[:2], names[1:], [names[0], names[2]], names):
        for scale in (0.5, 1.0):
            rows[f"{' + '.join(group)}, {scale}"] = merged(base, group, scale)
    got = {name: [score(model, tok, s) for s in skills.SKILLS] for name, model in rows.items()}
    heading = " | ".join(skills.SKILLS) + " | mean |\n" + "|---" * (len(skills.SKILLS) + 2) + "|\n"
    text = "| exact match, % | " + heading
    for name, cells in got.items():
        exact = [100 * e for _, e in cells]
        text += f"| {name} | " + " | ".join(f"{e:.0f}" for e in exact + [sum(exact) / len(exact)]) + " |\n"
    text += "\n| loss per answer token | " + heading
    for name in ["base", *names]:
        loss = [l for l, _ in got[name]]
        text += f"| {name} | " + " | ".join(f"{l:.3f}" for l in loss + [sum(loss) / len(loss)]) + " |\n"
    print(text)
    readme = HERE / "README.md"
    if readme.exists():
        head, mark, _ = readme.read_text().partition("<!-- table -->\n")
        readme.write_text(head + mark + "\n" + text)


def check():
    before = weights("base")
    for name in ["base", *TUNES]:
        tok = AutoTokenizer.from_pretrained(HERE / name)
        own = Tokenizer.from_file(str(HERE / name / "tokenizer.json"))
        model, info = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
        same = [k for k, v in weights(name).items() if torch.equal(v, before[k])]
        assert name == "base" or not same, same
        for p, c in skills.examples("all", "eval", 100, SEED + 1):
            ids = tok(p + c)["input_ids"]
            assert ids == own.encode(p + c).ids and tok.decode(ids, skip_special_tokens=True) == p + c
        prompt = tok("sum: 27+15 =", return_tensors="pt")
        print(f"{name}: {tok.decode(model.generate(**prompt, max_new_tokens=12)[0])!r}")


def main():
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    torch.set_num_threads(1)
    if what == "tokenizer":
        make_tokenizer().save(str(HERE / "base" / "tokenizer.json"))
    elif what == "table":
        table()
    elif what == "check":
        check()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
