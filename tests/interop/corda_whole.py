"""corda_whole.py - CorDA from end to end: a model's own text to a tuned and folded model

    corda_whole.py WSURG NAME MODEL KILOBYTES TUNE.txt

The model writes text with a seed, KILOBYTES of it at least; two thirds calibrate, the rest
is held out. For KPM on that text and for IPM on TUNE.txt: decompose, load residual and
adapter in stock transformers and PEFT, tune, fold, verify, evaluate. Without MODEL
everything is skipped.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

WSURG, name, model, kilobytes, tune_text = sys.argv[1:6]
RANK, STEPS = 16, 60
passed, failed = 0, 0


def check(what, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print(f"not ok {name}, {what}: {detail}")


def run(*args, out=None):
    """A command; its JSON document, or its standard output into the file at out."""
    words = [WSURG, *map(str, args)] + ([] if out else ["--json"])
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr)
        raise SystemExit(f"{' '.join(words)}: exit {done.returncode}")
    if out:
        Path(out).write_text(done.stdout)
        return None
    return json.loads(done.stdout) | {"said": done.stderr}


def own_text(home):
    """What the model writes, split: to calibrate on, and held out."""
    samples, size = 60, 0
    while size < 1000 * kilobytes:
        run("generate", home, "--prompt", "", "--samples", samples, "--max-tokens", 400,
            "--temperature", 1, "--seed", 7, out="own.jsonl")
        size = Path("own.jsonl").stat().st_size
        samples = int(samples * max(1.1, 1050 * kilobytes / max(size, 1)))
    lines = Path("own.jsonl").read_text().splitlines(keepends=True)
    cut = 2 * len(lines) // 3
    Path("own.train.jsonl").write_text("".join(lines[:cut]))
    Path("own.held.jsonl").write_text("".join(lines[cut:]))
    return size


def losses(*models):
    """Of each model: on the text to learn, on its own held-out text."""
    result = run("eval", *models, "--data", "new=new.held.txt", "--data", "own=own.held.jsonl",
                 "--window", 128, "--limit", 6000)["result"]
    return [[d["loss"] for d in m["data"]] for m in result["models"]]


def load(base, adapter=None):
    m = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return (PeftModel.from_pretrained(m, adapter) if adapter else m).eval()


def farthest(a, b):
    """The largest difference of logits on the held-out text."""
    ids = torch.tensor([tokens[:128], tokens[128:256]])
    with torch.no_grad():
        return (a(ids).logits - b(ids).logits).abs().max().item()


def one_mode(mode, cov, before):
    report = run("decompose", "base", "--corda", "--cov", cov, "--mode", mode, "--rank", RANK,
                 "-o", mode)["result"]
    off = farthest(load(f"{mode}/residual", f"{mode}/adapter"), load("base"))
    check(f"{mode}: logits of residual and adapter", off <= 1e-4, f"{off:.3g}")
    whole = losses(f"{mode}/residual+{mode}/adapter")[0]
    check(f"{mode}: losses before training", max(abs(a - b) for a, b in zip(whole, before)) < 1e-4,
          f"{whole}, the model itself {before}")
    start = time.time()
    run("tune", f"{mode}/residual", "--adapter", f"{mode}/adapter", "--data", "new.train.txt",
        "--steps", STEPS, "--seq", 128, "--lr", "1e-3", "--warmup", 6, "--schedule", "cosine",
        "-o", f"{mode}-tuned")
    used = time.time() - start
    run("lora", "fold", f"{mode}/residual", f"{mode}-tuned", "-o", f"{mode}-folded")
    run("lora", "verify", f"{mode}/residual", f"{mode}-tuned", f"{mode}-folded")
    apart = farthest(load(f"{mode}/residual", f"{mode}-tuned"), load(f"{mode}-folded"))
    check(f"{mode}: logits of the fold", apart <= 1e-3, f"{apart:.3g}")
    # converted, the adapter does on the model itself what the fold does
    run("lora", "convert", f"{mode}-tuned", "--initial", f"{mode}/adapter", "-o", f"{mode}-plain")
    plain = farthest(load("base", f"{mode}-plain"), load(f"{mode}-folded"))
    check(f"{mode}: logits of the plain LoRA", plain <= 1e-3, f"{plain:.3g}")
    after = losses(f"{mode}-folded")[0]
    check(f"{mode}: it learns", after[0] < before[0] - 0.2, f"{before[0]} to {after[0]}")
    print(f"  {mode}: identity {report['identity_error']:.2g} of W, logits {off:.2g}; tuned in "
          f"{used:.1f} s, fold {apart:.2g}, plain LoRA {plain:.2g}; loss new {before[0]:.3f} -> "
          f"{after[0]:.3f}, own {before[1]:.3f} -> {after[1]:.3f}")
    return after


def whole():
    global tokens
    text = Path(tune_text).read_text()[:400_000]
    cut = text.rfind("\n", 0, 4 * len(text) // 5) + 1
    Path("new.train.txt").write_text(text[:cut])
    Path("new.held.txt").write_text(text[cut:])
    run("convert", model, "-o", "base", "--dtype", "f32")
    size = own_text("base")
    positions = json.loads(Path("base/config.json").read_text())["max_position_embeddings"]
    said = run("calibrate", "base", "--data", "own.train.jsonl", "--samples", 64, "-o", "own.st")
    run("calibrate", "base", "--data", "new.train.txt", "--samples", 64, "-o", "new.st")
    check("--seq is cut to the model's positions, and said",
          f"cut to the model's {positions} positions" in said["said"], said["said"])
    held = "".join(json.loads(line)["text"] for line in open("own.held.jsonl"))
    tokens = AutoTokenizer.from_pretrained("base")(held)["input_ids"]
    before = losses("base")[0]
    print(f"{name}: {size} bytes written by the model; loss new {before[0]:.3f}, own {before[1]:.3f}")
    kpm, ipm = one_mode("kpm", "own.st", before), one_mode("ipm", "new.st", before)
    check("KPM keeps more of what the model wrote", kpm[1] < ipm[1], f"{kpm[1]}, IPM {ipm[1]}")


if not Path(model).is_dir():
    print(f"skip {name}: no model there")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.utils.logging.disable_progress_bar()
warnings.simplefilter("ignore")
WSURG, model, tune_text = (str(Path(p).resolve()) for p in (WSURG, model, tune_text))
kilobytes = int(kilobytes)
with tempfile.TemporaryDirectory() as work:
    os.chdir(work)
    whole()
    os.chdir("/")
print(f"{passed} passed, {failed} failed, 0 skipped")
sys.exit(1 if failed else 0)
