"""cases.py - the table of merges that are compared. A new method needs a row here,
a function in reference.py, and an entry in FAULTS there if mergekit has a defect.

Models are numbers: 0 is the base of a family, 1, 2, 3 its fine-tunes. A list among the
parameters holds one value per model, a scalar holds for the whole merge.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    name: str
    method: str
    models: tuple
    params: dict = field(default_factory=dict)
    base: int | None = 0
    mask: bool = False  # one model, weight 1: the kept entries are visible in the result

    def per_model(self):
        return {k: v for k, v in self.params.items() if isinstance(v, list)}

    def shared(self):
        return {k: v for k, v in self.params.items() if not isinstance(v, list)}


def average_cases():
    yield Case("linear", "linear", (1, 2), {"weight": [0.6, 0.4]}, None)
    yield Case("linear-sum", "linear", (1, 2), {"weight": [2.0, 1.0], "normalize": False}, None)
    yield Case("linear-three", "linear", (1, 2, 3), {"weight": [2.0, 1.0, 1.0]}, None)
    yield Case("linear-beyond", "linear", (1, 2), {"weight": [1.5, -0.5]}, None)
    yield Case("linear-with-base", "linear", (0, 1), {"weight": [0.3, 0.7]}, None)
    for name, t in (("slerp", 0.35), ("slerp-0", 0.0), ("slerp-1", 1.0), ("slerp-beyond", 1.4)):
        yield Case(name, "slerp", (1,), {"t": t})
    yield Case("slerp-tunes", "slerp", (2,), {"t": 0.5}, 1)
    yield Case("nuslerp", "nuslerp", (1, 2), {"weight": [0.6, 0.4]}, None)
    yield Case("nuslerp-base", "nuslerp", (1, 2), {"weight": [0.6, 0.4]})
    yield Case("multislerp", "multislerp", (1, 2, 3), {"weight": [0.5, 0.3, 0.2]}, None)
    yield Case("karcher", "karcher", (1, 2, 3), {}, None)
    yield Case("passthrough", "passthrough", (1,), {}, None)
    yield Case("passthrough-scale", "passthrough", (1,), {"scale": [0.5]}, None)


def task_cases():
    three = (1, 2, 3)
    yield Case("task_arithmetic", "task_arithmetic", (1, 2), {"weight": [0.6, 0.4]})
    yield Case("task_arithmetic-mean", "task_arithmetic", three,
               {"weight": [0.6, 0.8, 0.5], "normalize": True, "lambda": 0.5})
    yield Case("task_arithmetic-negated", "task_arithmetic", (1,), {"weight": [1.0], "lambda": -1.0})
    yield Case("ties", "ties", (1, 2),
               {"weight": [0.6, 0.4], "density": [0.5, 0.5], "normalize": True})
    yield Case("ties-sparse", "ties", three,
               {"weight": [1.0, 1.0, 1.0], "density": [0.2, 0.2, 0.2], "normalize": True})
    yield Case("ties-mixed", "ties", three,
               {"weight": [0.6, 0.4, 0.3], "density": [0.5, 0.25, 0.75], "normalize": True})
    yield Case("ties-dense", "ties", (1, 2),
               {"weight": [0.6, 0.4], "density": [1.0, 1.0], "normalize": False, "lambda": 0.8})
    yield Case("ties-rescale", "ties", (1, 2),
               {"weight": [0.6, 0.4], "density": [0.5, 0.5], "normalize": True, "rescale": True})
    yield Case("ties-against", "ties", (1, 2),
               {"weight": [0.7, -0.3], "density": [0.4, 0.4], "normalize": False})
    yield Case("ties-none-left", "ties", (1, 2),
               {"weight": [0.6, 0.4], "density": [0.01, 0.01], "normalize": True})
    for name, density, gamma in (("half", 0.5, 0.1), ("authors", 0.15, 0.006), ("overlap", 0.9, 0.2),
                                 ("no-top", 0.6, 0.0), ("default-top", 0.9, 0.01)):
        params = {"weight": [0.6, 0.4], "density": [density] * 2, "gamma": [gamma] * 2}
        yield Case(f"breadcrumbs-{name}", "breadcrumbs", (1, 2), params)
        yield Case(f"breadcrumbs_ties-{name}", "breadcrumbs_ties", (1, 2), params)
    yield Case("breadcrumbs-three", "breadcrumbs", three,
               {"weight": [1.0, 0.5, 0.7], "density": [0.15, 0.3, 0.6],
                "gamma": [0.006, 0.02, 0.3], "lambda": 0.7})
    yield Case("breadcrumbs_ties-three", "breadcrumbs_ties", three,
               {"weight": [1.0, 0.5, 0.7], "density": [0.15, 0.3, 0.6],
                "gamma": [0.006, 0.02, 0.3], "normalize": True})


def base_cases():
    three = (1, 2, 3)
    yield Case("model_stock", "model_stock", three)
    yield Case("model_stock-two", "model_stock", (1, 2))
    yield Case("model_stock-rows", "model_stock", three, {"filter_wise": True})
    yield Case("nearswap", "nearswap", (1,), {"t": 0.02})
    yield Case("sce", "sce", three)
    yield Case("sce-half", "sce", three, {"select_topk": 0.5})
    yield Case("ram", "ram", three, {"epsilon": 0.01})
    yield Case("ramplus_tl", "ramplus_tl", three, {"epsilon": 0.01, "r": 0.5, "alpha": 1.0})
    yield Case("arcee_fusion", "arcee_fusion", (1,))


def mask_cases():
    for model in (1, 2, 3):
        for density in (0.2, 0.5):
            yield Case(f"ties-mask-{model}-{density}", "ties", (model,),
                       {"weight": [1.0], "density": [density], "normalize": False}, mask=True)
        for density, gamma in ((0.15, 0.02), (0.5, 0.25)):
            yield Case(f"breadcrumbs-mask-{model}-{density}", "breadcrumbs", (model,),
                       {"weight": [1.0], "density": [density], "gamma": [gamma]}, mask=True)


CASES = [*average_cases(), *task_cases(), *base_cases(), *mask_cases()]
