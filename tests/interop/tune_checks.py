#!/usr/bin/env python3
"""tune_checks.py - `wsurg tune` step by step against PyTorch, transformers and peft

    tune_checks.py --wsurg build/wsurg --library build/src/libwsurg.so --root . [--data ../shared/data] [--long]

The batches come from the library through ctypes, so that PyTorch sees the very rows that `tune` trains on. Checked:
ten AdamW steps with clipping and a schedule, every parameter within 1e-5 (entries whose reference gradient never
reaches 1e-7 excepted, AdamW amplifies noise there, and counted); SGD; masks; LoRA and rsLoRA steps as in peft, adapters
both ways; DPO; and, where the sample data lie beside the checkout, the first 20 losses on the King James text. --long
adds 500 steps of it at three seeds.
"""
import argparse
import ctypes
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, get_scheduler
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(2)
FAMILIES = ["llama", "llama_bias_tied", "mistral", "qwen2", "qwen3", "gpt2"]
TALLY = {"ok": 0, "not ok": 0, "skip": 0}


def report(name, good, detail=""):
    word = "ok" if good else "not ok"
    TALLY[word] += 1
    print(f"{word} {name}{': ' + detail if detail else ''}", flush=True)


# ---- the library's batches ----

class Source(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("path", ctypes.c_char_p), ("weight", ctypes.c_double)]


class Opts(ctypes.Structure):
    _fields_ = [("length", ctypes.c_int64), ("pack", ctypes.c_bool), ("bos", ctypes.c_int), ("eos", ctypes.c_int),
                ("loss", ctypes.c_int), ("chat_format", ctypes.c_char_p), ("model", ctypes.c_char_p),
                ("limit", ctypes.c_int64), ("in_order", ctypes.c_bool), ("seed", ctypes.c_uint64),
                ("vocab", ctypes.c_int64)]


class Batch(ctypes.Structure):
    _fields_ = [("n", ctypes.c_int64), ("tokens", ctypes.POINTER(ctypes.c_int32)),
                ("targets", ctypes.POINTER(ctypes.c_int32)), ("n_docs", ctypes.c_int64),
                ("start", ctypes.POINTER(ctypes.c_int64)), ("scored", ctypes.c_int64), ("bytes", ctypes.c_uint64),
                ("cap", ctypes.c_int64), ("cap_docs", ctypes.c_int64)]


class Batches:
    """The documents of each step as `tune` sees them: lists of (tokens, targets)."""

    def __init__(self, library, path, model, seq, seed, vocab=0):
        self.lib = ctypes.CDLL(str(library))
        tokenizer = ctypes.c_void_p()
        if (model / "tokenizer.json").exists():
            assert self.lib.ws_tokenizer_open(ctypes.byref(tokenizer), str(model).encode(), None) == 0
        opts = Opts(length=seq, pack=True, model=str(model).encode(), seed=seed, vocab=vocab)
        source = Source(b"data", str(path).encode(), 1.0)
        source.name = pathlib.Path(path).stem.encode()
        self.data = ctypes.c_void_p()
        assert self.lib.ws_data_open(ctypes.byref(self.data), ctypes.byref(source), ctypes.c_size_t(1), tokenizer,
                                     ctypes.byref(opts), None, None) == 0

    def rows(self, first, count):
        b = Batch()
        assert self.lib.ws_data_batch(self.data, ctypes.c_uint64(first), ctypes.c_int64(count), ctypes.byref(b),
                                      None) == 0
        out = []
        for i in range(b.n_docs):
            lo, hi = b.start[i], b.start[i + 1]
            out.append((torch.tensor(b.tokens[lo:hi]).long(), torch.tensor(b.targets[lo:hi]).long()))
        return out


def token_loss(model, documents):
    """Sum of -log p over targets, and their number. Documents of one length run together."""
    total, count, groups = 0.0, 0, {}
    for tokens, targets in documents:
        groups.setdefault(len(tokens), []).append((tokens, targets))
    for group in groups.values():
        logits = model(input_ids=torch.stack([t for t, _ in group])).logits.float()
        targets = torch.stack([t for _, t in group])
        total = total + F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
        count += int((targets >= 0).sum())
    return total, count


# ---- one run of each side ----

class Run:
    def __init__(self, args, work):
        self.args, self.work = args, work

    def wsurg(self, *words, ok=True):
        done = subprocess.run([str(self.args.wsurg), "tune", *map(str, words), "-q"], capture_output=True, text=True)
        assert (done.returncode == 0) == ok, done.stderr
        return done

    def tune(self, name, *words):
        """(output, lines of the log)"""
        out, log = self.work / name, self.work / f"{name}.jsonl"
        shutil.rmtree(out, ignore_errors=True)
        self.wsurg(*words, "-o", out, "--log", log)
        return out, [json.loads(x) for x in log.read_text().splitlines()]


def optimiser(named, kind, lr, decay):
    """Weight decay on matrices alone, as the Trainer of transformers groups them."""
    matrices = [p for n, p in named if p.dim() == 2]
    vectors = [p for n, p in named if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [g for g in groups if g["params"]]
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-8)


def train(model, batches, steps, batch, accumulate, lr, warmup, schedule="cosine", decay=0.1, clip=0.5, kind="adamw",
          masks=None):
    """(loss and norm of each step, largest |gradient| that each entry saw)"""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    opt = optimiser(named, kind, lr, decay)
    sched = get_scheduler(schedule, opt, num_warmup_steps=warmup, num_training_steps=steps)
    largest = {n: torch.zeros_like(p) for n, p in named}
    rows = []
    for step in range(steps):
        micro = [batches.rows((step * accumulate + a) * batch, batch) for a in range(accumulate)]
        count = sum(int((t >= 0).sum()) for m in micro for _, t in m)
        opt.zero_grad()
        loss = 0.0
        for m in micro:
            part = token_loss(model, m)[0] / count
            part.backward()
            loss += part.item()
        for n, p in named:
            if masks:
                p.grad *= masks[n]
            largest[n] = torch.maximum(largest[n], p.grad.abs())
        norm = torch.nn.utils.clip_grad_norm_([p for _, p in named], clip if clip else float("inf")).item()
        before = [p.detach().clone() for _, p in named] if masks else None
        opt.step()
        if masks:
            with torch.no_grad():
                for (n, p), old in zip(named, before):
                    p.copy_(torch.where(masks[n].bool(), p, old))
        sched.step()
        rows.append((loss, norm))
    return rows, largest


def compare(name, log, rows, got, model, largest, keys=lambda n: n):
    lines = [x for x in log if "loss" in x]
    loss = max(abs(x["loss"] - r[0]) for x, r in zip(lines, rows))
    norm = max(abs(x["grad_norm"] - r[1]) / max(1.0, r[1]) for x, r in zip(lines, rows))
    worst, quiet = 0.0, 0
    for n, p in model.named_parameters():
        if n not in largest:
            continue
        off = (got[keys(n)].float() - p.detach()).abs()
        silent = largest[n] < 1e-7
        quiet += int((silent & (off > 1e-5)).sum())
        worst = max(worst, off[~silent].max().item() if (~silent).any() else 0.0)
    good = len(lines) == len(rows) and loss < 1e-4 and norm < 1e-3 and worst <= 1e-5
    report(name, good, f"parameters within {worst:.1e}, losses {loss:.1e}, norms {norm:.1e}; "
                       f"{quiet} entries without gradient excepted")


# ---- checks ----

def load(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


COMMON = ["--seq", 12, "--batch", 4, "--accumulate", 2, "--steps", 10, "--lr", "2e-3", "--schedule", "cosine",
          "--warmup", 3, "--betas", "0.9,0.95", "--clip", 0.5, "--seed", 5]


def tokens_file(work, vocab, n=1100):
    path = work / "tokens.npy"
    np.save(path, np.random.default_rng(3).integers(0, vocab, n).astype(np.uint16))
    return path


def named_in_file(model, got):
    """Some files leave the family's prefix out."""
    prefix = model.base_model_prefix + "."
    return lambda n: n if n in got else n.removeprefix(prefix)


def full(run, models):
    for family in FAMILIES:
        base = models / family
        model = load(base)
        path = tokens_file(run.work, model.config.vocab_size)
        for kind, extra in (("adamw", ["--weight-decay", 0.1]),
                            ("sgd", ["--weight-decay", 0.1, "--optimizer", "sgd", "--momentum", 0.9])):
            if kind == "sgd" and family != "llama":
                continue
            out, log = run.tune(f"{family}-{kind}", base, "--full", "--data", path, *COMMON, *extra)
            batches = Batches(run.args.library, path, base, 12, 5)
            model = load(base)
            rows, largest = train(model, batches, 10, 4, 2, 2e-3, 3, kind=kind)
            got = load_file(out / "model.safetensors")
            compare(f"tune/full/{family}/{kind}", log, rows, got, model, largest, named_in_file(model, got))
            same = load(out)
            report(f"tune/full/{family}/{kind}/loads", same.config.vocab_size == model.config.vocab_size)


def masked(run, models):
    base = models / "llama"
    model, path = load(base), tokens_file(run.work, 29)
    torch.manual_seed(1)
    masks = {n: (torch.rand(p.shape) < 0.2) for n, p in model.named_parameters()}
    save_file(masks, run.work / "mask.safetensors")
    out, log = run.tune("masked", base, "--full", "--data", path, *COMMON, "--weight-decay", 0.1, "--mask",
                        run.work / "mask.safetensors")
    rows, largest = train(model, Batches(run.args.library, path, base, 12, 5), 10, 4, 2, 2e-3, 3,
                          masks={n: m.float() for n, m in masks.items()})
    compare("tune/mask", log, rows, load_file(out / "model.safetensors"), model, largest)
    old, new = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    report("tune/mask/others-untouched", all(torch.equal(old[n][~m], new[n][~m]) for n, m in masks.items()))


def lora(run, models):
    from peft import LoraConfig, PeftModel, get_peft_model

    for family in ("llama", "qwen3", "gpt2"):
        base = models / family
        path = tokens_file(run.work, load(base).config.vocab_size)
        batches = Batches(run.args.library, path, base, 12, 5)
        for rs in ("", "--rslora"):
            words = [base, "--lora", "--rank", 4, "--lora-alpha", 6, "--data", path, *COMMON, *([rs] if rs else [])]
            start, _ = run.tune("start", *words, "--lr", 0, "--steps", 1, "--warmup", 0)
            out, log = run.tune("adapter", *words)
            model = PeftModel.from_pretrained(load(base), start, is_trainable=True).eval()
            rows, largest = train(model, batches, 10, 4, 2, 2e-3, 3, decay=0.0)
            got = load_file(out / "adapter_model.safetensors")
            compare(f"tune/lora/{family}{rs}", log, rows, got, model, largest,
                    lambda n: n.replace(".default", ""))
            trained = PeftModel.from_pretrained(load(base), out).eval()
            with torch.no_grad():
                total, count = token_loss(trained, batches.rows(0, 8))
            _, log = run.tune("on", base, "--adapter", out, "--data", path, *COMMON, "--lr", 0)
            off = abs(log[0]["loss"] - (total / count).item())
            report(f"tune/lora/{family}{rs}/ours-in-peft", off < 1e-5, f"losses differ by {off:.1e}")
        torch.manual_seed(2)
        target = ["c_attn", "c_proj"] if family == "gpt2" else ["q_proj", "down_proj"]
        config = LoraConfig(r=3, lora_alpha=7, target_modules=target, init_lora_weights=False,
                            fan_in_fan_out=family == "gpt2", rank_pattern={target[1]: 2})
        theirs = get_peft_model(load(base), config).eval()
        theirs.save_pretrained(run.work / "theirs")
        out, log = run.tune("on", base, "--adapter", run.work / "theirs", "--data", path, *COMMON, "--lr", 0)
        with torch.no_grad():
            total, count = token_loss(theirs, batches.rows(0, 8))
        off = abs(log[0]["loss"] - (total / count).item())
        old, new = load_file(run.work / "theirs/adapter_model.safetensors"), load_file(out / "adapter_model.safetensors")
        same = old.keys() == new.keys() and all(torch.equal(old[k], new[k]) for k in old)
        report(f"tune/lora/{family}/theirs-in-ours", off < 1e-5 and same, f"losses differ by {off:.1e}")


def dpo(run, root):
    base = root / "examples/models/base"
    path = run.work / "pairs.jsonl"
    rng = np.random.default_rng(4)
    with open(path, "w") as f:
        for _ in range(40):
            a, b = rng.integers(10, 99, 2)
            json.dump({"prompt": f"sum: {a}+{b} =", "chosen": f" {a + b}\n", "rejected": f" {a + b + 1}\n"}, f)
            f.write("\n")
    _, log = run.tune("dpo", base, "--full", "--loss", "dpo", "--dpo-beta", 0.2, "--data", path, "--batch", 4,
                      "--accumulate", 2, "--steps", 6, "--lr", "1e-3", "--schedule", "constant", "--clip", 1.0,
                      "--betas", "0.9,0.95", "--seed", 5, "--dtype", "f32", "--seq", 64)
    batches = Batches(run.args.library, path, base, 64, 5)
    policy, reference = load(base), load(base)
    opt = torch.optim.AdamW(policy.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)

    def logp(model, document):
        tokens, targets = document
        return -F.cross_entropy(model(input_ids=tokens[None]).logits[0], targets, ignore_index=-100, reduction="sum")

    worst = 0.0
    for step in range(6):
        loss = 0.0
        documents = batches.rows(step * 8, 8)
        for i in range(0, len(documents), 2):
            with torch.no_grad():
                rho = logp(reference, documents[i]) - logp(reference, documents[i + 1])
            pi = logp(policy, documents[i]) - logp(policy, documents[i + 1])
            loss = loss - F.logsigmoid(0.2 * (pi - rho)) / (len(documents) // 2)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        opt.step()
        worst = max(worst, abs(log[step]["loss"] - loss.item()))
    report("tune/dpo", worst < 1e-4, f"losses of 6 steps within {worst:.1e}")


KJV = ["--seq", 128, "--batch", 8, "--lr", "7e-4", "--schedule", "cosine", "--warmup", 50, "--betas", "0.9,0.99",
       "--clip", 1.0]


def held_out(model, tokenizer, path, n=8000, window=128):
    ids = tokenizer(path.read_text(), add_special_tokens=False)["input_ids"][:n]
    rows = torch.tensor(ids[: len(ids) // window * window]).view(-1, window)
    with torch.no_grad():
        logits = model(input_ids=rows[:, :-1]).logits
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item()


def kjv(run, data, seeds):
    from transformers import AutoTokenizer

    base, text = data / "stories260k", data / "text/kjv.train.txt"
    out, log = run.tune("kjv", base, "--full", "--data", text, *KJV, "--steps", 500, "--save-every", 1000)
    batches, model = Batches(run.args.library, text, base, 128, 0), load(base)
    opt = torch.optim.AdamW(model.parameters(), lr=7e-4, betas=(0.9, 0.99), weight_decay=0.0)
    sched = get_scheduler("cosine", opt, num_warmup_steps=50, num_training_steps=500)
    worst = 0.0
    for step in range(20):
        total, count = token_loss(model, batches.rows(step * 8, 8))
        opt.zero_grad()
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        worst = max(worst, abs(log[step]["loss"] - (total / count).item()))
    report("tune/kjv/first-20-losses", worst < 1e-4, f"within {worst:.1e}")
    tokenizer = AutoTokenizer.from_pretrained(base)
    for seed in seeds:
        if seed:
            out, _ = run.tune("kjv", base, "--full", "--data", text, *KJV, "--steps", 500, "--seed", seed)
        loss = held_out(load(out), tokenizer, data / "text/kjv.eval.txt")
        report(f"tune/kjv/held-out/seed-{seed}", loss <= 2.25, f"{loss:.4f} after 500 steps, at most 2.25")
    start = held_out(load(base), tokenizer, data / "text/kjv.eval.txt")
    if len(seeds) > 1:
        from peft import PeftModel
        out, _ = run.tune("kjv-lora", base, "--lora", "--rank", 8, "--lora-alpha", 16, "--target", "_proj", "--data",
                          text, *KJV, "--lr", "3e-3", "--steps", 300)
        loss = held_out(PeftModel.from_pretrained(load(base), out).eval(), tokenizer, data / "text/kjv.eval.txt")
        report("tune/kjv/lora", loss < start - 0.3, f"held-out loss {start:.3f} -> {loss:.3f} in 300 steps")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--wsurg", type=pathlib.Path, required=True)
    p.add_argument("--library", type=pathlib.Path, required=True)
    p.add_argument("--root", type=pathlib.Path, required=True)
    p.add_argument("--data", type=pathlib.Path)
    p.add_argument("--only", default="")
    p.add_argument("--long", action="store_true")
    args = p.parse_args()
    args.wsurg, args.library = args.wsurg.resolve(), args.library.resolve()
    data = args.data or args.root / "../shared/data"
    with tempfile.TemporaryDirectory() as work:
        run = Run(args, pathlib.Path(work))
        models = args.root / "tests/golden/models"
        jobs = {"full": lambda: full(run, models), "masked": lambda: masked(run, models),
                "lora": lambda: lora(run, models), "dpo": lambda: dpo(run, args.root)}
        if (data / "stories260k").is_dir():
            jobs["kjv"] = lambda: kjv(run, data, (0, 1, 2) if args.long else ())
        else:
            TALLY["skip"] += 1
            print("skip tune/kjv: no ../shared/data beside the checkout")
        for name, job in jobs.items():
            if args.only in name:
                job()
    print(f"{TALLY['ok']} passed, {TALLY['not ok']} failed, {TALLY['skip']} skipped")
    return 1 if TALLY["not ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
