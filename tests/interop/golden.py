"""golden.py - results of mergekit's own kernels on 3 x 4 tensors, as published numbers.

One row is a deliberate departure: breadcrumbs with gamma 0.01 gave the base exactly there
(its kept slice was empty); here the reference says what a correct rule gives.
"""

import numpy as np
from safetensors.numpy import save_file

import reference
from compare import TOLERANCE, apart, worst
from families import floats
from support import Absent, Refused

BASE = "0.10 -0.20 0.30 -0.40 0.50 -0.60 0.70 -0.80 0.90 -1.0 1.1 -1.2"
UPDATES = {
    "A": "0.05 -0.11 0.02 0.23 -0.31 0.07 0.13 -0.01 0.17 -0.19 0.29 0.03",
    "B": "-0.04 -0.06 0.09 0.12 0.15 0.21 -0.18 0.27 -0.33 0.08 0.36 -0.10",
    "C": "0.39 0.14 -0.16 -0.22 0.01 -0.25 0.28 0.05 0.20 -0.30 -0.02 0.35",
}
W2, W3 = [0.6, 0.4], [0.6, 0.4, 0.3]

# method, models, base, parameters, the twelve values (None: the reference's)
ROWS = [
    ("linear", "A B", None, {"weight": W2},
     ".114 -.290 .348 -.214 .374 -.474 .706 -.698 .870 -1.082 1.418 -1.222"),
    ("linear", "A B", None, {"weight": [2, 1], "normalize": False},
     ".360 -.880 1.030 -.620 1.030 -1.450 2.180 -2.150 2.710 -3.300 4.240 -3.640"),
    ("linear", "A B C", None, {"weight": [2, 1, 1]},
     ".2125 -.235 .2925 -.310 .385 -.575 .790 -.725 .9525 -1.150 1.330 -1.1225"),
    ("slerp", "B", "A", {"t": 0.35},
     ".119781 -.295865 .348615 -.211070 .355649 -.486466 .729581 -.720005 .904889 -1.108006 "
     "1.431139 -1.229880"),
    ("slerp", "C", "base", {"t": 0.35},
     ".239024 -.152254 .246088 -.481570 .508120 -.694026 .805565 -.789620 .979067 -1.115395 "
     "1.102991 -1.087046"),
    ("slerp", "dB", "dA", {"t": 0.35},
     ".021653 -.124274 .063550 .257020 -.184994 .168054 .016943 .131338 -.026838 -.119564 "
     ".432136 -.026363"),
    ("nuslerp", "A B", None, {"weight": W2},
     ".115333 -.293540 .352356 -.216734 .378999 -.479738 .714463 -.706389 .880331 -1.095139 "
     "1.435570 -1.237199"),
    ("nuslerp", "A B", "base", {"weight": W2},
     ".116866 -.323346 .368514 -.145273 .338326 -.421387 .699565 -.650703 .844298 -1.106045 "
     "1.542787 -1.234167"),
    ("nuslerp", "A B", "base", {"weight": W2, "nuslerp_flatten": False},
     ".114446 -.294888 .350977 -.203923 .301831 -.364559 .691540 -.599051 .849988 -1.100981 "
     "1.515987 -1.231510"),
    ("nuslerp", "A B", "base", {"weight": W2, "nuslerp_flatten": False, "nuslerp_row_wise": True},
     ".127185 -.318147 .353448 -.173133 .192879 -.429650 .704423 -.670062 .718116 -1.102360 "
     "1.451304 -1.229156"),
    ("multislerp", "A B", None, {"weight": W2},
     ".113546 -.293049 .354713 -.219701 .390255 -.477615 .709000 -.701588 .870924 -1.091416 "
     "1.440298 -1.242853"),
    ("multislerp", "A B C", "base", {"weight": [0.5, 0.3, 0.2]},
     ".235673 -.295836 .319209 -.182225 .280807 -.498871 .812739 -.662862 .955000 -1.224720 "
     "1.548342 -1.123979"),
    ("multislerp", "A B C", None, {"weight": [2, 1, 1], "normalize_weights": False},
     ".850927 -.965593 1.207823 -1.261681 1.600034 -2.330424 3.202212 -2.945627 3.856045 "
     "-4.679160 5.455809 -4.612079"),
    ("karcher", "A B C", None, {},
     ".233217 -.217706 .295049 -.363349 .469329 -.598675 .788498 -.709704 .925837 -1.159806 "
     "1.351415 -1.144102"),
    ("karcher", "dA dB dC", None, {},
     ".243370 -.040005 -.015988 .123673 -.110746 .054481 .132350 .221675 .002819 -.262038 "
     ".465403 .160328"),
    ("task_arithmetic", "A B", "base", {"weight": W2},
     ".114 -.290 .348 -.214 .374 -.474 .706 -.698 .870 -1.082 1.418 -1.222"),
    ("task_arithmetic", "A B", "base", {"weight": [0.6, 0.8], "normalize": True, "lambda": 0.5},
     ".099286 -.240714 .33 -.316429 .476429 -.525 .676429 -.725 .842143 -1.017857 1.265 "
     "-1.222143"),
    ("ties", "A B", "base", {"weight": W2, "density": [0.5, 0.5], "normalize": True},
     ".10 -.20 .30 -.17 .19 -.39 .83 -.53 .57 -1.19 1.418 -1.20"),
    ("ties", "A B C", "base", {"weight": W3, "density": [0.5, 0.25, 0.75], "normalize": True},
     ".49 -.06 .14 -.17 .19 -.85 .88 -.53 1.08 -1.226667 1.418 -.85"),
    ("ties", "A B", "base",
     {"weight": W2, "density": [1.0, 1.0], "normalize": False, "lambda": 0.8},
     ".124 -.272 .3384 -.2512 .3512 -.4992 .7624 -.7136 .7944 -1.0912 1.3544 -1.232"),
    ("ties", "A B", "base",
     {"weight": W2, "density": [0.5, 0.5], "normalize": True, "rescale": True},
     ".1 -.2 .3 -.119470 .121894 -.321400 .461200 -.441800 .462200 -1.231743 1.503267 -1.2"),
    ("breadcrumbs", "A B", "base", {"weight": W2, "density": [0.5, 0.5], "gamma": [0.1, 0.1]},
     ".10 -.266 .30 -.214 .56 -.516 .706 -.692 .87 -1.114 1.274 -1.20"),
    ("breadcrumbs", "A B", "base", {"weight": W2, "density": [0.5, 0.5], "gamma": [0.25, 0.25]},
     ".13 -.266 .336 -.352 .56 -.474 .706 -.80 1.002 -1.114 1.10 -1.24"),
    ("breadcrumbs_ties", "A B", "base",
     {"weight": W2, "density": [0.5, 0.5], "gamma": [0.25, 0.25]},
     ".13 -.266 .336 -.352 .56 -.474 .778 -.80 1.002 -1.114 1.10 -1.24"),
    ("breadcrumbs", "A B", "base",
     {"weight": W2, "density": [0.9, 0.9], "gamma": [0.01, 0.01]}, None),
    ("model_stock", "A B C", "base", {},
     ".032258 -.194919 .308468 -.422016 .525403 -.605081 .661048 -.852500 .893226 -.930564 "
     ".993306 -1.247420"),
    ("model_stock", "A B C", "base", {"filter_wise": True},
     ".030632 -.194797 .308671 -.422545 .597710 -.619542 .550178 -1.001935 .901534 -1.015723 "
     "1.124160 -1.189262"),
    ("nearswap", "A", "base", {"t": 0.05},
     ".15 -.25 .32 -.35 .45 -.55 .75 -.81 .95 -1.05 1.15 -1.17"),
    ("arcee_fusion", "A", "base", {},
     ".10 -.20 .30 -.40 .19 -.60 .70 -.80 .90 -1.0 1.1 -1.2"),
    ("arcee_fusion", "C", "base", {},
     ".49 -.20 .30 -.40 .50 -.60 .70 -.80 .90 -1.0 1.1 -1.2"),
    ("sce", "A B C", "base", {},
     ".373225 -.281249 .14 -.233253 .19 -.449497 .928482 -.658818 1.089696 -1.262220 1.430252 "
     "-.959906"),
    ("sce", "A B C", "base", {"select_topk": 0.5},
     ".10 -.20 .30 -.229027 .19 -.454874 .925538 -.80 1.089108 -1.0 1.10 -.966185"),
    ("ram", "A B C", "base", {"epsilon": 0.1},
     ".49 -.185 .14 -.356667 .42 -.62 .776667 -.53 .913333 -1.245 1.425 -1.075"),
    ("ramplus_tl", "A B C", "base", {"epsilon": 0.1},
     ".4978 -.185 .1368 -.356667 .42 -.62 .776667 -.5246 .913333 -1.245 1.425 -1.075"),
    ("ramplus_tl", "A B C", "base", {"epsilon": 0.1, "r": 0.5, "alpha": 1.0},
     ".685 -.185 .06 -.356667 .42 -.62 .776667 -.395 .913333 -1.245 1.425 -1.075"),
]


def numbers(text):
    return np.array(text.split(), dtype=np.float32).reshape(3, 4)


def tensors():
    named = {"base": numbers(BASE)}
    for name, text in UPDATES.items():
        named["d" + name] = numbers(text)
        named[name] = named["base"] + numbers(text)
    return named


def wanted_values(row, named):
    method, models, base, params, text = row
    found = reference.METHODS[method](
        None if base is None else named[base], [named[m] for m in models.split()], params).out
    if text is None:
        return found, []
    wanted = np.array(text.split(), dtype=np.float64).reshape(3, 4)
    gap = distance(found, wanted)
    return wanted, [f"the reference is {gap:.3g} off"] if gap > TOLERANCE else []


def distance(found, wanted):
    """The largest difference, in units of the largest value where that is above 1."""
    return worst(apart(found, wanted)) / max(1.0, float(np.abs(wanted).max()))


def check_row(row, named, wsurg, folder):
    method, models, base, params, _ = row
    wanted, problems = wanted_values(row, named)
    if wsurg is None:
        return problems
    if not wsurg.has(method):
        raise Absent(f"wsurg has no method {method}")
    out = folder / "out.safetensors"
    out.unlink(missing_ok=True)
    sources = [folder / f"{m}.safetensors" for m in models.split()]
    origin = folder / f"{base}.safetensors" if base else None
    if method == "slerp":  # t runs from the first to the second
        sources, origin = [origin, *sources], None
    try:
        wsurg.merge(out, sources, method, params, origin)
    except Refused as refusal:
        return problems + [str(refusal)]
    gap = distance(floats(out)["w"], wanted)
    return problems + ([f"wsurg is {gap:.3g} off"] if gap > TOLERANCE else [])


def run(report, wsurg, work):
    folder = work / "golden"
    folder.mkdir()
    named = tensors()
    for name, tensor in named.items():
        save_file({"w": tensor}, folder / f"{name}.safetensors", metadata={"format": "pt"})
    for number, row in enumerate(ROWS, 1):
        report.check(f"golden/{number:02}-{row[0]}", check_row, row, named, wsurg, folder)
