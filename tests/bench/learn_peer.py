#!/usr/bin/env python3
"""learn_peer.py - steps of learn in PyTorch: weights composed from task vectors under autograd, timed

    python3 learn_peer.py BASE MODEL... -- ROWS LENGTH STEPS THREADS sum|stacked float32|bfloat16

A coefficient for each tensor and model. sum: base + sum_k lambda_k tau_k as the authors of aTLAS write it; stacked:
all task vectors of a tensor in one array and one product. Task vectors are held in the dtype named, all else is
computed in float32. ROWS rows of random tokens, AdamW, clipping. Prints one JSON object.
"""

import json
import os
import resource
import sys
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch  # noqa: E402
import transformers as tf  # noqa: E402
from safetensors import safe_open  # noqa: E402
from torch.func import functional_call  # noqa: E402

tf.utils.logging.disable_progress_bar()
split = sys.argv.index("--")
paths, (rows, length, steps, threads, how, dtype) = sys.argv[1:split], sys.argv[split + 1:]
rows, length, steps, dtype = int(rows), int(length), int(steps), getattr(torch, dtype)
torch.set_num_threads(int(threads))
torch.manual_seed(1)
model = tf.AutoModelForCausalLM.from_pretrained(paths[0], dtype=torch.float32)
model.requires_grad_(False)
names = [n for n, _ in model.named_parameters()]
base = dict(model.named_parameters())
taus = {n: [] for n in names}
for path in paths[1:]:
    with safe_open(os.path.join(path, "model.safetensors"), "pt") as f:
        keys = set(f.keys())
        for n in names:
            key = n if n in keys else n.removeprefix("transformer.")
            taus[n].append((f.get_tensor(key).float() - base[n]).to(dtype))
count = len(paths) - 1
if how == "stacked":
    taus = {n: torch.stack(t).flatten(1) for n, t in taus.items()}
coef = torch.zeros(len(names), count, requires_grad=True)
optimizer = torch.optim.AdamW([coef], lr=1e-2)
ids = torch.randint(0, model.config.vocab_size, (rows, length + 1))


def composed():
    out = {}
    for i, n in enumerate(names):
        if how == "stacked":
            delta = (coef[i].to(dtype) @ taus[n]).view_as(base[n])
        else:
            delta = sum(c * t for c, t in zip(coef[i], taus[n]))
        out[n] = base[n] + delta
    return out


wall = cpu = 1e30
for step in range(steps):
    w, c = time.perf_counter(), time.process_time()
    logits = functional_call(model, composed(), (ids[:, :-1],)).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_([coef], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    del logits
    wall, cpu = min(wall, time.perf_counter() - w), min(cpu, time.process_time() - c)
print(json.dumps(dict(what=f"{how} {dtype}", steps=steps, seconds=round(wall, 4), cpu_seconds=round(cpu, 4),
                      loss=round(loss.item(), 6),
                      peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)))
