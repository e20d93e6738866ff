#!/usr/bin/env python3
"""tune_peer.py - the steps of tunestep.c in PyTorch, timed

    python3 tune_peer.py MODEL full|lora ROWS STEPS THREADS eager|sdpa float32|bfloat16

One sequence of random tokens, AdamW (foreach), clipping by the global norm. float32 computes
in float32 on the model's weights, bfloat16 natively. Prints one JSON object with the keys of
tunestep.
"""

import json
import os
import resource
import statistics
import sys
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch  # noqa: E402
import transformers as tf  # noqa: E402

tf.utils.logging.disable_progress_bar()
path, what, rows, steps, threads, attention, dtype = sys.argv[1:8]
rows, steps = int(rows), int(steps)
torch.set_num_threads(int(threads))
torch.manual_seed(1)
model = tf.AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), attn_implementation=attention)
if what == "lora":
    import peft
    model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear",
                                                       fan_in_fan_out=model.config.model_type == "gpt2",
                                                       task_type="CAUSAL_LM"))
model.train()


def median_step(seconds):
    """The median but for the first step, which warms up."""
    return statistics.median(seconds[1:] or seconds)


trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-5)
ids = torch.randint(0, model.config.vocab_size, (1, rows + 1))
wall, cpu = [], []
for _ in range(steps):
    w, c = time.perf_counter(), time.process_time()
    logits = model(ids[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits[0].float(), ids[0, 1:])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    del logits
    wall.append(time.perf_counter() - w)
    cpu.append(time.process_time() - c)
print(json.dumps(dict(what=f"{what} {attention} {dtype}", rows=rows, steps=steps, seconds=round(median_step(wall), 4),
                      cpu_seconds=round(median_step(cpu), 4), loss=round(loss.item(), 6),
                      peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)))
