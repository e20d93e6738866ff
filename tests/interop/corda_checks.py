"""corda_checks.py - calibrate and decompose against PEFT's CorDA and transformers

    corda_checks.py WSURG [MODEL]

Covariances against hooks on transformers' own forward pass; IPM against PEFT's CorDA on
the very same covariances, and both modes against a decomposition in float64; residual and
adapter loaded in stock transformers and PEFT against the original model. MODEL is one
more model to decompose and load.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import types
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

# all that PEFT's corda.py takes of attrs, which is not among its requirements
if "attr" not in sys.modules:
    sys.modules["attr"] = types.SimpleNamespace(dataclass=dataclasses.dataclass)

import numpy as np
import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from safetensors import safe_open
from safetensors.torch import load_file
import transformers
from transformers import (AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig,
                          LlamaForCausalLM)

WSURG = sys.argv[1]
transformers.utils.logging.disable_progress_bar()
warnings.simplefilter("ignore")
passed, failed = 0, 0


def check(name, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print(f"not ok {name}: {detail}")


def run(*args):
    done = subprocess.run([WSURG, *map(str, args), "--json"], capture_output=True, text=True)
    if done.returncode:
        print(done.stdout, done.stderr)
        raise SystemExit(f"wsurg {' '.join(map(str, args))}: exit {done.returncode}")
    return json.loads(done.stdout)["result"]


def llama():
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=61, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        tie_word_embeddings=False))


def gpt2():
    torch.manual_seed(2)
    return GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=48, n_layer=2, n_head=4,
                                      n_positions=256))


def linears(model):
    kinds = (torch.nn.Linear, transformers.pytorch_utils.Conv1D)
    return {n: m for n, m in model.named_modules() if isinstance(m, kinds) and "head" not in n}


def by_hooks(model, samples):
    """PEFT's sum: every sample's X over |max X|, X'X over the number of samples."""
    sums, handles = {}, []

    def hook(name):
        def see(module, args, output):
            x = args[0].detach().squeeze(0).double()
            x = x / x.max().abs()
            sums[name] = sums.get(name, 0) + x.T @ x / len(samples)
        return see

    for name, m in linears(model).items():
        handles.append(m.register_forward_hook(hook(name)))
    with torch.no_grad():
        for s in samples:
            model(torch.tensor(s[None].astype(np.int64)))
    for h in handles:
        h.remove()
    return sums


def stored(path, model):
    """What calibrate stored, by module, divided by its samples."""
    out = {}
    with safe_open(path, "pt") as f:
        about = json.loads(f.metadata()["wsurg.covariance"])
        for name in linears(model):
            key = name + ".weight"
            key = key if key in about["tensors"] else key.removeprefix("transformer.")
            packed = f.get_tensor(about["tensors"][key]).double() / about["samples"]
            n = int((2 * packed.numel()) ** 0.5)
            c = torch.zeros(n, n, dtype=torch.float64)
            c[tuple(torch.triu_indices(n, n))] = packed
            out[name] = c + c.triu(1).T
    return out


def adapter_of(folder):
    t = load_file(Path(folder) / "adapter_model.safetensors")
    parts = {}
    for key, value in t.items():
        name = key.removeprefix("base_model.model.").rsplit(".lora_", 1)[0]
        parts.setdefault(name, {})[key.rsplit("lora_", 1)[1][0]] = value.double()
    return {n: (p["B"], p["A"]) for n, p in parts.items()}


def weight(m):
    w = m.weight.detach().double()
    return w.T if isinstance(m, transformers.pytorch_utils.Conv1D) else w


def damped(c):
    return c + 0.01 * c.diagonal().mean() * torch.eye(c.shape[0], dtype=c.dtype)


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def peft_corda(model, covariances, mode, rank, work):
    """B A of PEFT's own decomposition, per module."""
    target = sorted({n.rsplit(".", 1)[1] for n in covariances})
    file = Path(work) / "peft" / f"cov-{mode}.pt"
    file.parent.mkdir(exist_ok=True)
    torch.save({n: c.float() for n, c in covariances.items()}, file)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=target, init_lora_weights="corda",
                        corda_config=CordaConfig(corda_method=mode, covariance_file=str(file)))
    preprocess_corda(model, config)
    return {n: (m.eigens.U_WC * m.eigens.S_WC @ m.eigens.V_WC.T).double()
            for n, m in linears(model).items()}


def same_logits(name, original, base_dir, adapter_dir):
    base = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    both = PeftModel.from_pretrained(base, adapter_dir).eval()
    torch.manual_seed(5)
    ids = torch.randint(0, original.config.vocab_size, (2, 40))
    with torch.no_grad():
        off = (both(ids).logits - original(ids).logits).abs().max().item()
    check(f"{name}: logits", off <= 1e-4, f"largest difference {off:.3g}")


def check_split(name, make, work, rank):
    model = make().eval()
    home = Path(work) / name
    model.save_pretrained(home)
    rng = np.random.default_rng(7)
    samples = [rng.integers(0, 61, n).astype(np.uint16) for n in (180, 150, 199)]
    cov = None
    for i, s in enumerate(samples):
        np.save(home.parent / f"{name}-{i}.npy", s)
        more = ["--add", cov] if cov else []
        run("calibrate", home, "--data", home.parent / f"{name}-{i}.npy", *more,
            "-o", home.parent / f"{name}-{i}.cov.safetensors")
        cov = home.parent / f"{name}-{i}.cov.safetensors"
    mine, want = stored(cov, model), by_hooks(model, samples)
    off = max(distance(mine[n], want[n]) for n in want)
    check(f"{name}: covariances", off <= 1e-5, f"{off:.3g}")
    for mode in ("ipm", "kpm"):
        out = home.parent / f"{name}-{mode}"
        report = run("decompose", home, "--corda", "--cov", cov, "--mode", mode, "--rank", rank,
                     "-o", out)
        check(f"{name} {mode}: identity", report["identity_error"] < 1e-6, report["identity_error"])
        theirs = peft_corda(make().eval(), mine, mode, rank, work)
        for module, (b, a) in adapter_of(out / "adapter").items():
            w, c = weight(linears(model)[module]), damped(mine[module])
            u, s, _ = torch.linalg.svd(w @ c, full_matrices=False)
            condition = s[0] / s[-1]
            u = u[:, :rank] if mode == "ipm" else u[:, -rank:]
            s = s[:rank] if mode == "ipm" else s[-rank:]
            off = distance(b @ a, u @ (u.T @ w))
            check(f"{name} {mode} {module}: float64", off <= 1e-4, f"{off:.3g}")
            off = distance(b.T @ b, torch.diag(s))
            check(f"{name} {mode} {module}: B'B = S", off <= 1e-4, f"{off:.3g}")
            if mode == "ipm" and condition <= 1e5:  # beyond it PEFT's float32 has no such digits
                # PEFT inverts in float32: what it is itself from float64 is not ours to match
                exact = u @ (u.T @ w)
                own, off = distance(b @ a, exact), distance(b @ a, theirs[module])
                error = distance(theirs[module], exact)
                check(f"{name} {module}: PEFT", off <= 1e-4 or (own <= 1e-5 and off <= own + error),
                      f"{off:.3g}, ours {own:.3g} and PEFT's {error:.3g} from float64")
        same_logits(f"{name} {mode}", model, out / "residual", out / "adapter")
    out = home.parent / f"{name}-keep"
    run("decompose", home, "--pissa", "--rank", rank, "--keep-base", "-o", out)
    same_logits(f"{name} keep-base", model, home, out / "adapter")


def check_model(path, work):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    out = Path(work) / "real"
    run("decompose", path, "--pissa", "--rank", 16, "-o", out)
    same_logits("real model", model, out / "residual", out / "adapter")


with tempfile.TemporaryDirectory() as work:
    check_split("llama", llama, work, 8)
    check_split("gpt2", gpt2, work, 6)
    if len(sys.argv) > 2:
        check_model(sys.argv[2], work)
print(f"{passed} passed, {failed} failed, 0 skipped")
sys.exit(1 if failed else 0)
