"""reference.py - every method once more: slow, NumPy, float64, sharing nothing with wsurg.

METHODS[name](base, models, params, peer) returns a Result. With peer=None it is the rule
that wsurg follows; with a mergekit version it is what that version is known to do.
FAULTS lists the known defects: a predicate on the inputs says whether one acts on a tensor.
"""

from dataclasses import dataclass, field
from itertools import product

import numpy as np

OLD = "0.1.4"  # the last release with the slice and the assertion below


def wobble(n):
    """Relative error of a cosine over n entries in mergekit: PyTorch's float32 norm of
    41,472 entries on one thread was found 2.8e-6 off, the cosine 5.4e-6."""
    return 2e-7 + 1.5e-10 * n


@dataclass
class Result:
    out: np.ndarray
    # Entries that rest on a tie (a cut through equal magnitudes, a vote at rounding
    # level): any of `options` is right there; without options, they are not compared.
    unsure: np.ndarray = None
    options: list = field(default_factory=list)
    # of these, the ones that stay open when ties go to the lower index
    close: np.ndarray = None
    # how far mergekit's float32 sums may move the result
    slack: float = 0.0
    # per model: the entries kept, and [(entries of one split tie, how many are kept)]
    keep: list = field(default_factory=list)
    ties: list = field(default_factory=list)


def wide(arrays):
    return [np.asarray(a, dtype=np.float64) for a in arrays]


def deltas(base, models):
    """Task vectors as both programs form them: in float32."""
    return [np.subtract(m, base, dtype=np.float32) for m in models]


def norm(v):
    return float(np.sqrt(np.sum(v * v)))


# -- averages and spheres ----------------------------------------------------------------


def linear(base, models, params, peer=None):
    total = sum(w * m for w, m in zip(params["weight"], wide(models)))
    if params.get("normalize", True):
        total = total / sum(params["weight"])
    return Result(total)


def arc(t, a, b, cosine):
    theta = np.arccos(np.clip(cosine, -1.0, 1.0))
    return (np.sin((1 - t) * theta) * a + np.sin(t * theta) * b) / np.sin(theta)


def cosine_of(a, b, floor=1e-8):
    na, nb = norm(a), norm(b)
    return float(np.sum(a / (na if na > floor else 1.0) * (b / (nb if nb > floor else 1.0))))


def slerp(base, models, params, peer=None):
    a, b = wide([base, models[0]])
    cosine, t = cosine_of(a, b), params["t"]
    if abs(cosine) > 0.9995:
        return Result((1 - t) * a + t * b)
    out = arc(t, a, b, cosine)
    moved = arc(t, a, b, cosine * (1 - wobble(a.size)))
    return Result(out, slack=float(np.abs(moved - out).max()))


def nuslerp(base, models, params, peer=None):
    origin = 0.0 if base is None else np.asarray(base, dtype=np.float64)
    a, b = (m - origin for m in wide(models))
    w1, w2 = params["weight"]
    t = 0.5 if abs(w1 + w2) < 1e-6 else w2 / (w1 + w2)
    if params.get("nuslerp_flatten", True):
        axis = None
    else:
        axis = 0 if params.get("nuslerp_row_wise", False) else -1

    def unit(v):
        return v / np.maximum(np.sqrt(np.sum(v * v, axis=axis, keepdims=True)), 1e-7)

    cosine = np.clip(np.sum(unit(a) * unit(b), axis=axis, keepdims=True), -1, 1)
    flat = 1 - cosine * cosine <= 1e-16
    curved = arc(t, a, b, np.where(flat, 0.0, cosine))
    return Result(origin + np.where(flat, (1 - t) * a + t * b, curved))


def multislerp(base, models, params, peer=None):
    origin = 0.0 if base is None else np.asarray(base, dtype=np.float64)
    vectors = [m - origin for m in wide(models)]
    weights = np.array(params["weight"], dtype=np.float64)
    if params.get("normalize_weights", True):
        weights = weights / weights.sum()
    eps = params.get("eps", 1e-8)
    units = [v / (norm(v) + eps) for v in vectors]
    mean = sum(w * u for w, u in zip(weights, units))
    mean = mean / norm(mean)
    tangent = sum(w * (u - np.sum(u * mean) * mean) for w, u in zip(weights, units))
    r = norm(tangent) + eps
    scale = sum(w * norm(v) for w, v in zip(weights, vectors))
    out = (mean * np.cos(r) + tangent * np.sin(r) / r) * scale
    return Result(out + origin, slack=float(np.abs(out).max()) * wobble(out.size))


def karcher(base, models, params, peer=None):
    vectors = wide(models)
    tol = params.get("tol", 1e-5)
    norms = [norm(v) for v in vectors]
    units = [v / n for v, n in zip(vectors, norms) if n > tol]
    if not units:
        return Result(np.zeros_like(vectors[0]))
    mean = sum(units) / len(units)
    mean = units[0] if norm(mean) < tol else mean / norm(mean)
    for _ in range(params.get("max_iter", 10)):
        tangent = np.zeros_like(mean)
        for unit in units:
            cosine = float(np.clip(np.sum(mean * unit), -1, 1))
            phi = np.arccos(cosine)
            if phi >= tol:
                tangent += phi / np.sin(phi) * (unit - cosine * mean) / len(units)
        step = norm(tangent)
        if step < tol:
            break
        mean = np.cos(step) * mean + np.sin(step) * tangent / step
        mean = mean / norm(mean)
    out = sum(norms) / len(norms) * mean
    return Result(out, slack=float(np.abs(out).max()) * wobble(out.size))


def passthrough(base, models, params, peer=None):
    return Result(wide(models)[0] * params.get("scale", [1.0])[0])


# -- task vectors ------------------------------------------------------------------------


def cut(magnitude, top, count):
    """Keep `count` entries after the `top` largest: the mask, and the ties that are split.

    Of equal magnitudes the one with the lower index ranks as the larger (mergekit: any).
    """
    keep = np.zeros(magnitude.size, dtype=bool)
    if count <= 0:
        return keep, []
    order = np.argsort(-magnitude, kind="stable")
    keep[order[top:top + count]] = True
    ties = []
    for edge in (top, top + count):
        if 0 < edge < magnitude.size and magnitude[order[edge - 1]] == magnitude[order[edge]] > 0:
            equal = magnitude == magnitude[order[edge]]
            ties.append((equal, int(keep[equal].sum())))
    return keep, ties


def keep_largest(delta, density, peer=None):
    """TIES: the trunc(d n) largest."""
    magnitude = np.abs(delta).ravel()
    n = magnitude.size
    if density >= 1:
        return np.ones(n, dtype=bool), []
    count = int(density * n)
    if peer and density > 0:
        count = max(1, count)  # mergekit 0.1.5; 0.1.4 ends the whole merge
    return cut(magnitude, 0, count)


def keep_middle(delta, density, gamma, peer=None):
    """Breadcrumbs: without the trunc(g n) largest, the trunc(d n) largest of the rest."""
    magnitude = np.abs(delta).ravel()
    n = magnitude.size
    if density >= 1:
        return np.ones(n, dtype=bool), []
    count = int(density * n)
    top = min(int(gamma * n), n - count)
    if peer == OLD and top == 0:
        return np.zeros(n, dtype=bool), []  # the slice that ends at -0
    return cut(magnitude, top, count)


def sparsified(family, delta, index, params, peer):
    density = params.get("density", [1.0] * (index + 1))[index]
    if family == "ties":
        keep, ties = keep_largest(delta, density, peer)
    elif family == "breadcrumbs":
        gamma = params.get("gamma", [0.01] * (index + 1))[index]
        keep, ties = keep_middle(delta, density, gamma, peer)
    else:
        keep, ties = np.ones(delta.size, dtype=bool), []
    flat = np.abs(delta.ravel().astype(np.float64))
    factor = 1.0
    if params.get("rescale", False) and flat.sum() >= 1e-7 and flat[keep].sum() >= 1e-7:
        factor = flat.sum() / flat[keep].sum()
    return keep, ties, factor


def mixed(base, parts, weights, sign, params):
    """base + lambda * (sum of weighted parts, of those that agree with `sign` if given)."""
    terms = [w * p for w, p in zip(weights, parts)]
    if sign is None:
        agree = [np.ones(base.shape) for _ in terms]
    else:
        agree = [(np.sign(t) == sign).astype(float) for t in terms]
    total = sum(t * a for t, a in zip(terms, agree))
    if params.get("normalize", False):
        share = sum(w * a for w, a in zip(weights, agree))
        total = total / np.where(np.abs(share) < 1e-8, 1.0, share)
    return base + params.get("lambda", 1.0) * total


def task_family(family, vote, normalize, base, models, params, peer=None):
    params = {"normalize": normalize, **params}
    shape = np.shape(base)
    base64 = np.asarray(base, dtype=np.float64).ravel()
    weights = [float(np.float32(w)) for w in params["weight"]]
    keeps, ties, scaled = [], [], []
    for i, delta in enumerate(deltas(base, models)):
        keep, split, factor = sparsified(family, delta, i, params, peer)
        keeps.append(keep)
        ties.append(split)
        scaled.append(delta.ravel().astype(np.float64) * factor)

    def merge(masks, flip=None):
        parts = [s * m for s, m in zip(scaled, masks)]
        if not vote:
            return mixed(base64, parts, weights, None, params)
        ballot = sum(np.float32(w) * p.astype(np.float32) for w, p in zip(weights, parts))
        sign = np.where(ballot >= 0, 1.0, -1.0) if flip is None else np.full(base64.shape, flip)
        return mixed(base64, parts, weights, sign, params)

    # what an entry may become when a tie is broken otherwise, or a close vote goes otherwise
    free = [np.any([t for t, _ in split], axis=0) if split else np.zeros(base64.size, bool)
            for split in ties]
    close = np.zeros(base64.size, dtype=bool)
    if vote:
        terms = [w * s * k for w, s, k in zip(weights, scaled, keeps)]
        close = np.abs(sum(terms)) <= 1e-6 * sum(np.abs(t) for t in terms)
        close &= sum(np.abs(t) for t in terms) > 0
    options = []
    for choice in product((False, True), repeat=len(keeps)):
        masks = [np.where(f, c, k) for f, c, k in zip(free, choice, keeps)]
        options += [merge(masks, flip) for flip in ((None, 1.0, -1.0) if vote else (None,))]
    unsure = np.any([*free, close], axis=0)
    return Result(
        merge(keeps).reshape(shape),
        unsure.reshape(shape),
        [o.reshape(shape) for o in options] if unsure.any() else [],
        close.reshape(shape),
        keep=[k.reshape(shape) for k in keeps],
        ties=[[(t.reshape(shape), n) for t, n in split] for split in ties],
    )


def family_of(family, vote, normalize):
    def method(base, models, params, peer=None):
        return task_family(family, vote, normalize, base, models, params, peer)
    return method


# -- other methods on a base -------------------------------------------------------------


def model_stock(base, models, params, peer=None):
    base = np.asarray(base, dtype=np.float64)
    models = wide(models)
    axis = -1 if params.get("filter_wise", False) else None
    offsets = [m - base for m in models]

    def dot(a, b):
        return np.sum(a * b, axis=axis, keepdims=True)

    pairs = [(a, b) for i, a in enumerate(offsets) for b in offsets[i + 1:]]
    cosines = []
    for a, b in pairs:
        size = np.sqrt(dot(a, a)) * np.sqrt(dot(b, b))
        size = np.maximum(size, 1e-6) if peer else np.where(size > 0, size, 1.0)
        cosines.append(np.clip(dot(a, b) / size, -1, 1))
    cosine = sum(cosines) / len(cosines)
    count = len(models)
    below = 1 + (count - 1) * cosine
    with np.errstate(all="ignore"):
        t = count * cosine / below
    t = np.where(np.abs(below) < 1e-6, 0.0, t)
    step = sum(models) / count - base
    # the slope of t is N / (1 + (N - 1) c)^2, and all rows of a tensor share the bound
    slope = np.where(t == 0, 0.0, count * np.abs(cosine) / np.maximum(below, 1e-6) ** 2)
    return Result(base + t * step, slack=float(np.max(wobble(base.size) * slope * np.abs(step), initial=0)))


def nearswap(base, models, params, peer=None):
    base = np.asarray(base, dtype=np.float64)
    delta = models[0].astype(np.float64) - base
    return Result(base + np.sign(delta) * np.minimum(np.abs(delta), max(params["t"], 0.0)))


def sce(base, models, params, peer=None):
    base = np.asarray(base, dtype=np.float64)
    parts = [m - base for m in wide(models)]
    share = params.get("select_topk", 1.0)
    keep = np.ones(base.shape, dtype=bool)
    unsure = None
    if share < 1:
        spread = np.var(np.stack(parts), axis=0).ravel()
        count = int(np.float32(np.count_nonzero(spread)) * share)
        keep, _ = cut(spread, 0, count)
        if count and np.any(~keep) and spread[~keep].max() >= spread[keep].min() * (1 - 1e-6):
            unsure = np.ones(base.shape, dtype=bool)  # the choice weighs on every entry
        keep = keep.reshape(base.shape)
    parts = [p * keep for p in parts]
    sign = np.where(sum(parts) >= 0, 1.0, -1.0)
    agree = [np.sign(p) == sign for p in parts]
    energy = [float(np.mean(p * p)) for p in parts]
    total = sum(energy)
    if total < (1e-6 if peer else 1e-300):
        weight = [1 / len(parts)] * len(parts)
    else:
        weight = [e / total for e in energy]
    below = sum(w * a for w, a in zip(weight, agree))
    below = np.maximum(below, 1e-6) if peer else np.where(below > 0, below, 1.0)
    return Result(base + sum(w * a * p for w, a, p in zip(weight, agree, parts)) / below, unsure)


def ram(base, models, params, peer=None, plus=False):
    base = np.asarray(base, dtype=np.float64)
    eps = params.get("epsilon", 1e-5)
    moved = deltas(base.astype(np.float32), models)
    parts = [d.astype(np.float64) for d in moved]
    active = [np.abs(d) > np.float32(eps) for d in moved]
    count = sum(a.astype(int) for a in active)
    unique, shared = count == 1, count > 1
    out = base.copy()
    for part, on in zip(parts, active):
        boost = 1.0
        if plus:
            rho = np.sum(on & shared) / max(np.sum(on & unique), eps)
            boost = 1 + params.get("r", 0.1) * float(np.clip(rho, 0, params.get("alpha", 0.2)))
        out = out + part * on * (boost * unique + shared / np.maximum(count, 1))
    return Result(out)


def ramplus_tl(base, models, params, peer=None):
    return ram(base, models, params, peer, plus=True)


def arcee_fusion(base, models, params, peer=None):
    base, other = wide([base, models[0]])

    def softmax(v):
        e = np.exp(v - v.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True) + 1e-8

    p, q = softmax(other), softmax(base)
    score = np.abs(other - base) * np.sum(p * np.log(p / q), axis=-1, keepdims=True)
    ranked = np.sort(score.ravel())
    low, middle, high = (ranked[int(x * (ranked.size - 1))] for x in (0.25, 0.5, 0.75))
    threshold = middle + 1.5 * (high - low)
    out = base + (other - base) * (score >= threshold)
    # softmax and its logarithm are float32 in mergekit: scores carry 1e-7, absolutely
    doubt = np.abs(score - threshold) <= 1e-6 * np.abs(other - base) + 1e-9
    return Result(out, doubt, [base, other])


METHODS = {
    "linear": linear,
    "slerp": slerp,
    "nuslerp": nuslerp,
    "multislerp": multislerp,
    "karcher": karcher,
    "passthrough": passthrough,
    "task_arithmetic": family_of(None, False, False),
    "ties": family_of("ties", True, True),
    "breadcrumbs": family_of("breadcrumbs", False, False),
    "breadcrumbs_ties": family_of("breadcrumbs", True, False),
    "model_stock": model_stock,
    "nearswap": nearswap,
    "sce": sce,
    "ram": ram,
    "ramplus_tl": ramplus_tl,
    "arcee_fusion": arcee_fusion,
}


# -- where mergekit does otherwise, predicted from its rules ----------------------------------


def empty_slice(version, base, models, params):
    """breadcrumbs: where no large entry is to go, the kept slice ends at -0 and is empty."""
    if version != OLD:
        return False
    n = base.size
    densities = params["density"]
    gammas = params["gamma"]
    return any(d < 1 and min(int(g * n), n - int(d * n)) == 0 for d, g in zip(densities, gammas))


def at_least_one(version, base, models, params):
    """ties 0.1.5 keeps one entry where density n is below 1; wsurg then keeps the base."""
    return any(0 < d < 1 and int(d * base.size) == 0 for d in params["density"])


def absolute_floor(version, base, models, params):
    """model_stock: the product of two norms is held at 1e-6 or more, so small updates go."""
    rows = [d.astype(np.float64) for d in deltas(base, models)]
    axis = -1 if params.get("filter_wise", False) else None
    sizes = [np.sqrt(np.sum(r * r, axis=axis)) for r in rows]
    products = [a * b for i, a in enumerate(sizes) for b in sizes[i + 1:]]
    return any(np.any((p < 1e-6) & (p > 0)) for p in products)


def opposite(version, base, models, params):
    """Of two opposite updates, model_stock divides by zero and nuslerp by a sine of 1e-7."""
    if version != OLD or base is None or len(models) != 2:
        return False
    rows = [d.astype(np.float64) for d in deltas(base, models)]
    return cosine_of(*rows) < -1 + 1e-6


def close_to_parallel(version, base, models, params):
    """slerp turns to lerp at a cosine of 0.9995, formed in float32 there."""
    a, b = wide([base, models[0]])
    return abs(abs(cosine_of(a, b)) - 0.9995) < 2 * wobble(a.size)


def small_energy(version, base, models, params):
    """sce: weights are equal where the energies sum to less than 1e-6, and the divisor is
    held at 1e-6 or more."""
    energies = [float(np.mean(d.astype(np.float64) ** 2)) for d in deltas(base, models)]
    total = sum(energies)
    small = min((e / total for e in energies if e > 0), default=1.0) if total else 1.0
    return total < 1e-5 or small < 1e-6


def model_axis(version, base, models, params):
    """sce 0.1.4: where no variance is left the result gains an axis."""
    share = params.get("select_topk", 1.0)
    if version != OLD or share >= 1:
        return False
    spread = np.var(np.stack(deltas(base, models)).astype(np.float64), axis=0)
    return int(np.float32(np.count_nonzero(spread)) * share) == 0


FAULTS = {
    "ties": [at_least_one],
    "breadcrumbs": [empty_slice],
    "breadcrumbs_ties": [empty_slice],
    "model_stock": [absolute_floor, opposite],
    "nuslerp": [opposite],
    "slerp": [close_to_parallel],
    "sce": [small_energy, model_axis],
}
# of these the consequence is not predicted, only where they act
UNPREDICTED = {opposite, close_to_parallel, small_energy, model_axis}


def aborts(version, case, base, models):
    """The exception with which that version ends the whole merge, or None."""
    if version == OLD and case.method == "ties":
        smallest = min(t.size for t in base.values())
        if any(d < 1 and int(d * smallest) == 0 for d in case.params["density"]):
            return "AssertionError"
    return None
