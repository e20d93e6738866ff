#!/usr/bin/env python3
"""Write train/optim.safetensors and train/schedule.safetensors: what PyTorch's optimisers and the schedules
of transformers do, for tests/unit/test_optim.c and test_schedule.c.

Made with Python 3.11, PyTorch 2.13.0 (CPU), transformers 5.23.0, safetensors 0.8.0.
"""
import pathlib

import torch
from safetensors.torch import save_file
from transformers import get_scheduler, optimization

HERE = pathlib.Path(__file__).resolve().parent / "train"
STEPS, N, CLIP = 10, (70, 33), 1.0

OPTIMISERS = {
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=3e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
    "adamw_far": lambda ps: torch.optim.AdamW(ps, lr=3e-3, betas=(0.3, 0.99), eps=1e-4, weight_decay=0.0),
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9, weight_decay=0.01),
    "sgd_plain": lambda ps: torch.optim.SGD(ps, lr=0.05),
}


def optimisers():
    out = {}
    for name, make in OPTIMISERS.items():
        torch.manual_seed(7)
        ps = [torch.nn.Parameter(torch.randn(n)) for n in N]
        opt = make(ps)
        out[f"{name}.start"] = torch.cat([p.detach() for p in ps])
        gradients, states, norms = [], [], []
        for step in range(STEPS):
            for p in ps:
                p.grad = torch.randn(p.shape) * (0.01 if step % 3 == 2 else 1.0)
            gradients.append(torch.cat([p.grad for p in ps]))
            norms.append(torch.nn.utils.clip_grad_norm_(ps, CLIP))
            opt.step()
            states.append(torch.cat([p.detach() for p in ps]))
        out[f"{name}.gradients"] = torch.stack(gradients)
        out[f"{name}.states"] = torch.stack(states)
        out[f"{name}.norms"] = torch.stack(norms)
    save_file(out, HERE / "optim.safetensors")


def schedules():
    out, total, lr = {}, 40, 0.25
    extra = {"cosine_with_min_lr": {"min_lr_rate": 0.1}, "polynomial": {"power": 2.0},
             "warmup_stable_decay": {"num_decay_steps": 10, "min_lr_ratio": 0.2}}
    for name in ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts",
                 "cosine_with_min_lr", "polynomial", "inverse_sqrt", "warmup_stable_decay"):
        for warm in (0, 7):
            opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
            kind = optimization.SchedulerType(name)
            if name == "polynomial":
                sched = optimization.get_polynomial_decay_schedule_with_warmup(opt, warm, total, power=2.0)
            else:
                sched = get_scheduler(kind, opt, num_warmup_steps=warm, num_training_steps=total,
                                      scheduler_specific_kwargs=extra.get(name))
            rates = []
            for _ in range(total):
                rates.append(opt.param_groups[0]["lr"])
                opt.step()
                sched.step()
            out[f"{name}.{warm}"] = torch.tensor(rates, dtype=torch.float64)
    save_file(out, HERE / "schedule.safetensors")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    optimisers()
    schedules()
