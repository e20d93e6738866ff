"""decompose_peer.py - layers to decompose, the reference pipeline in PyTorch, the errors

    decompose_peer.py make ROWS COLS FOLDER            W.f32, C.f32
    decompose_peer.py corda ROWS COLS RANK FOLDER      times the reference in float32
    decompose_peer.py exact ROWS COLS RANK FOLDER      singular vectors in float64
    decompose_peer.py error ROWS COLS RANK MODE FILE FOLDER   of FILE's B A, against exact
    decompose_peer.py svd ROWS COLS FOLDER             times a full decomposition of W

The reference is PEFT's: damping, inverse and its check, W C, full decomposition, V' C^-1.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

what, m, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)


def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def make(folder):
    """Weights with a decaying part; channels of log-normal scale, some thirtyfold."""
    g = torch.Generator().manual_seed(0)
    k = min(m, n) // 4
    w = torch.randn(m, n, generator=g) * 0.02
    w += (torch.randn(m, k, generator=g) * torch.linspace(1, 0, k) ** 2
          ) @ torch.randn(k, n, generator=g) * 0.002
    scale = torch.exp(torch.randn(n, generator=g))
    scale[torch.randperm(n, generator=g)[: max(4, n // 256)]] *= 30
    c = torch.zeros(n, n)
    mix = torch.randn(n // 2, n, generator=g) / (n // 2) ** 0.5
    for _ in range(max(4, 2 * n // 2048)):
        x = torch.randn(2048, n // 2, generator=g) @ mix + 0.3 * torch.randn(2048, n, generator=g)
        x *= scale
        x /= x.max().abs()
        c += x.T @ x
    w.numpy().tofile(folder / "W.f32")
    c.numpy().tofile(folder / "C.f32")


def load(folder):
    w = torch.from_numpy(np.fromfile(folder / "W.f32", np.float32).reshape(m, n))
    c = torch.from_numpy(np.fromfile(folder / "C.f32", np.float32).reshape(n, n))
    return w, c


def damped(c, damp):
    return c + torch.eye(n, dtype=c.dtype) * c.diagonal().mean() * damp


def reference(folder, r):
    w, c = load(folder)
    wall, used, damp = time.perf_counter(), cpu(), 0.01
    while True:
        fixed = damped(c, damp)
        inverse = torch.linalg.inv(fixed)
        if torch.dist(fixed @ inverse, torch.eye(n)).item() < 0.05:
            break
        damp *= 2
    u, s, vh = torch.linalg.svd(w @ fixed, full_matrices=False)
    v = vh @ inverse
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": cpu() - used, "damp": damp}))
    for mode, k in (("ipm", slice(0, r)), ("kpm", slice(-r, None))):
        np.concatenate([(u[:, k] * s[k].sqrt()).double().numpy().ravel(),
                        (s[k].sqrt()[:, None] * v[k]).double().numpy().ravel()]).tofile(
            folder / f"reference-{mode}.f64")


def exact(folder, r):
    w, c = load(folder)
    t = w.double() @ damped(c.double(), 0.01)
    u, s, _ = torch.linalg.svd(t, full_matrices=False)
    torch.save({"ipm": u[:, :r].clone(), "kpm": u[:, -r:].clone(), "s": s}, folder / "exact.pt")


def error(folder, r, mode, file):
    w, _ = load(folder)
    x = np.fromfile(file, np.float64)
    b, a = x[: m * r].reshape(m, r), x[m * r:].reshape(r, n)
    u = torch.load(folder / "exact.pt")[mode]
    want = u @ (u.T @ w.double())
    got = torch.from_numpy(b) @ torch.from_numpy(a)
    print(f"{((got - want).norm() / want.norm()).item():.3g}")


def svd(folder):
    w, _ = torch.from_numpy(np.fromfile(folder / "W.f32", np.float32).reshape(m, n)), None
    wall, used = time.perf_counter(), cpu()
    s = torch.linalg.svd(w, full_matrices=False)[1]
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": cpu() - used,
                      "least": s[64:].double().square().sum().sqrt().item()}))


with torch.no_grad():
    folder = Path(sys.argv[-1])
    if what == "make":
        make(folder)
    elif what == "corda":
        reference(folder, int(sys.argv[4]))
    elif what == "exact":
        exact(folder, int(sys.argv[4]))
    elif what == "error":
        error(folder, int(sys.argv[4]), sys.argv[5], sys.argv[6])
    else:
        svd(folder)
