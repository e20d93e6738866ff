"""random_checks.py - DARE and DELLA: no bits to compare, but rates, factors and promises.

The base is zero, so an output is the kept updates times their factor, exactly as stored.
Bounds are five standard deviations; seeds are fixed, so a result does not change by itself.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from support import Absent, Wsurg

METHODS = ("dare_linear", "dare_ties", "della", "della_linear")
SHAPES = {"matrix": (64, 2048), "twin": (64, 2048), "square": (1024, 1024), "line": (50000,),
          "cube": (8, 16, 256), "column": (30000, 1)}
EPSILON = 0.2


@dataclass
class Bench:
    """A zero base, task models with their updates, and merges of them."""

    wsurg: Wsurg
    base: Path
    models: list
    updates: list
    out: Path

    def draw(self, method, params, models=(0,), seed=1, extra=()):
        """The merged file, of one model unless said otherwise."""
        self.out.unlink(missing_ok=True)
        params = {"weight": [1.0] * len(models), "normalize": False, **params}
        if method.startswith("della"):
            params = {"epsilon": EPSILON, **params}
        self.wsurg.merge(self.out, [self.models[m] for m in models], method, params, self.base,
                         ["--seed", seed, *extra])
        return self.out

    def masked(self, method, params, **more):
        return load_file(self.draw(method, params, **more))


def update_of(rng, shape):
    """Random signs and distinct magnitudes, so that ranks are beyond doubt."""
    size = int(np.prod(shape))
    return ((rng.permutation(size) + 1) * rng.choice([-1, 1], size) * 2.0**-22).reshape(
        shape).astype(np.float32)


def bench_in(wsurg, folder):
    """Two task models of all SHAPES."""
    folder.mkdir()
    rng = np.random.default_rng(7)
    zero = {n: np.zeros(s, np.float32) for n, s in SHAPES.items()}
    updates = [{n: update_of(rng, s) for n, s in SHAPES.items()} for _ in range(2)]
    models = [folder / f"task{i}.safetensors" for i in range(2)]
    for path, tensors in zip([folder / "zero.safetensors", *models], [zero, *updates]):
        save_file(tensors, path, metadata={"format": "pt"})
    return Bench(wsurg, folder / "zero.safetensors", models, updates, folder / "out.safetensors")


def beyond(name, count, wanted, variance):
    """A problem if a count is more than five standard deviations from what it should be."""
    if abs(count - wanted) > 5 * np.sqrt(variance):
        yield f"{name}: {count:.0f} kept, {wanted:.0f} expected, " \
              f"{(count - wanted) / np.sqrt(variance):.1f} standard deviations"


def check_rate(bench, method):
    """Kept counts, also of neighbours: draws of different entries are independent."""
    for density in (0.3, 0.5, 0.7):
        out = bench.masked(method, {"density": density})
        for name, tensor in out.items():
            kept = (tensor != 0).ravel()
            n, d = kept.size, density
            yield from beyond(f"{name} at {d}", kept.sum(), d * n, n * d * (1 - d))
            if method.startswith("dare"):
                pairs = np.sum(kept[1:] & kept[:-1])
                spread = n * (d * d * (1 - d * d) + 2 * (d**3 - d**4))
                yield from beyond(f"{name} at {d}, neighbours", pairs, d * d * (n - 1), spread)


def check_factor(bench, method):
    """Every kept update is the original times one factor, which restores the L1 norm."""
    out = bench.masked(method, {"density": 0.4, "rescale": "l1"})
    for name, tensor in out.items():
        update = bench.updates[0][name].astype(np.float64)
        kept = tensor != 0
        ratio = tensor[kept] / update[kept]
        factor = np.abs(update).sum() / np.abs(update[kept]).sum()
        if np.ptp(ratio) > 1e-6 * factor:
            yield f"{name}: factors from {ratio.min():.8g} to {ratio.max():.8g}"
        if abs(ratio.mean() / factor - 1) > 1e-5:
            yield f"{name}: factor {ratio.mean():.8g}, the L1 norms give {factor:.8g}"
        if abs(np.abs(tensor, dtype=np.float64).sum() / np.abs(update).sum() - 1) > 1e-5:
            yield f"{name}: the L1 norm is not restored"


def check_plain(bench, method):
    """Without rescaling the kept updates are unchanged, bit for bit."""
    out = bench.masked(method, {"density": 0.4, "rescale": "none"})
    for name, tensor in out.items():
        kept = tensor != 0
        if np.any(tensor[kept] != bench.updates[0][name][kept]):
            yield f"{name}: kept updates differ from the originals"


def check_inverse(bench, method):
    """rescale=inverse_density divides by the probability of being kept."""
    density = 0.4
    out = bench.masked(method, {"density": density, "rescale": "inverse_density"})
    for name in ("square", "line", "column"):
        update, tensor = bench.updates[0][name].astype(np.float64), out[name]
        p = np.full(update.shape, density)
        if method.startswith("della") and name != "column":
            rank = ranks(update).reshape(update.shape)
            m = update.shape[-1]
            p = density - EPSILON + 2 * EPSILON * (rank - 1) / (m - 1)
        kept = tensor != 0
        gap = np.max(np.abs(tensor[kept] * p[kept] / update[kept] - 1))
        if gap > 1e-6:
            yield f"{name}: factors are {gap:.3g} off, relatively"


def check_identity(bench, method):
    """Density 1 keeps everything."""
    out = bench.masked(method, {"density": 1.0})
    for name, tensor in out.items():
        if np.any(tensor != bench.updates[0][name]):
            yield f"{name}: differs from the model at density 1"


def check_seed(bench, method):
    """Bytes depend on the seed, not on the threads, nor on which other tensors there are."""
    first = bench.draw(method, {"density": 0.5}, seed=5, extra=["-j", "1"]).read_bytes()
    if bench.draw(method, {"density": 0.5}, seed=5, extra=["-j", "2"]).read_bytes() != first:
        yield "one and two threads differ"
    if bench.draw(method, {"density": 0.5}, seed=6).read_bytes() == first:
        yield "two seeds give the same"
    whole = bench.masked(method, {"density": 0.5}, seed=5)
    folder = bench.out.parent
    alone = Bench(bench.wsurg, folder / "zero-alone.safetensors", [folder / "alone.safetensors"], [],
                  bench.out)
    save_file({"twin": np.zeros(SHAPES["twin"], np.float32)}, alone.base)
    save_file({"twin": bench.updates[0]["twin"]}, alone.models[0])
    single = alone.masked(method, {"density": 0.5}, seed=5)
    if np.any(single["twin"] != whole["twin"]):
        yield "the mask of a tensor depends on the other tensors"


def check_apart(bench, method):
    """Models, and tensors of one shape, draw their masks independently."""
    density = 0.5
    masks = []
    for weight in ([1.0, 0.0], [0.0, 1.0]):
        out = bench.masked(method, {"density": [density] * 2, "weight": weight}, models=(0, 1))
        masks.append({n: (t != 0).ravel() for n, t in out.items()})
    d = density * density
    for name, mask in masks[0].items():
        both = np.sum(mask & masks[1][name])
        yield from beyond(f"{name} in two models", both, d * mask.size, mask.size * d * (1 - d))
    mask = masks[0]["matrix"] & masks[0]["twin"]
    yield from beyond("two tensors", mask.sum(), d * mask.size, mask.size * d * (1 - d))


def ranks(update):
    """Rank 1..m of every entry in its row, ascending by magnitude."""
    rows = np.abs(update.reshape(1, -1) if update.ndim < 2 else update)
    return rows.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable") + 1


def check_ranks(bench, method):
    """DELLA keeps rank r of m with p = (d - e) + 2 e (r - 1) / (m - 1)."""
    density = 0.5
    out = bench.masked(method, {"density": density})
    for name, width in (("square", 1), ("square", 32), ("matrix", 64), ("line", 500)):
        rank = ranks(bench.updates[0][name])
        m = rank.shape[1]
        kept = (out[name] != 0).reshape(rank.shape)
        p = density - EPSILON + 2 * EPSILON * np.arange(m) / (m - 1)
        counts = np.bincount(rank.ravel() - 1, weights=kept.ravel(), minlength=m)
        rows = rank.shape[0]
        for first in range(0, m - m % width, width):
            bin_ = slice(first, first + width)
            yield from beyond(f"{name}, ranks {first + 1} to {first + width} of {m}",
                              counts[bin_].sum(), rows * p[bin_].sum(),
                              rows * (p[bin_] * (1 - p[bin_])).sum())


CHECKS = {"rate": check_rate, "factor": check_factor, "plain": check_plain,
          "inverse": check_inverse, "identity": check_identity, "seed": check_seed, "apart": check_apart}


def guarded(check, bench, method):
    if not bench.wsurg.has(method):
        raise Absent(f"wsurg has no method {method}")
    return list(check(bench, method))


def run(report, wsurg, work):
    bench = bench_in(wsurg, work / "random")
    for method in METHODS:
        for name, check in CHECKS.items():
            report.check(f"random/{method}-{name}", guarded, check, bench, method)
        if method.startswith("della"):
            report.check(f"random/{method}-ranks", guarded, check_ranks, bench, method)
