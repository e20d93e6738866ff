"""compare.py - one merge three ways: wsurg, mergekit, and the slow reference.

On a tensor where no known defect of mergekit acts, all three agree within TOLERANCE, but
for entries that rest on a tie. Where one acts (reference.FAULTS predicts it from the
inputs), wsurg agrees with the reference and mergekit with the predicted consequence.
"""

import json
import subprocess

import numpy as np

import reference
from families import floats
from support import Refused

TOLERANCE = 2e-6


def peer_config(case, family):
    """The case as a mergekit configuration."""
    def path(number):
        return str(family.paths[number])

    per_model = case.per_model()
    models = [
        {"model": path(m), "parameters": {k: v[i] for k, v in per_model.items()}}
        for i, m in enumerate(case.models)
    ]
    config = {"merge_method": case.method, "dtype": "float32", "models": models}
    if case.base is not None:
        config["base_model"] = path(case.base)
    if case.shared():
        config["parameters"] = case.shared()
    return config


def run_peer(python, script, jobs, work):
    """All jobs in one process; name -> "ok" or the exception."""
    work.mkdir(parents=True, exist_ok=True)
    todo, done = work / "jobs.json", work / "results.json"
    todo.write_text(json.dumps(jobs), encoding="utf-8")
    environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1",
                   "PATH": "/usr/bin:/bin", "HOME": str(work), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([python, script, todo, done], capture_output=True, text=True,
                         timeout=900, env=environment)
    if run.returncode != 0:
        raise RuntimeError("mergekit did not start: " + (run.stderr.strip().splitlines() or ["?"])[-1])
    return json.loads(done.read_text(encoding="utf-8"))


def wsurg_merge(wsurg, case, family, out):
    """The case as a wsurg merge: name -> float32 array."""
    sources = [family.sources[m] for m in case.models]
    base = None if case.base is None else family.sources[case.base]
    if case.method == "slerp":  # t runs from the first to the second
        sources, base = [base, *sources], None
    wsurg.merge(out, sources, case.method, case.params, base, ["--dtype", "f32"])
    return floats(out)


def worst(difference):
    return float(np.max(difference)) if difference.size else 0.0


def apart(found, wanted, where=True):
    """|found - wanted| with NaN equal to NaN, 0 outside `where`."""
    difference = np.abs(found.astype(np.float64) - wanted)
    difference = np.where(np.isnan(found) & np.isnan(wanted), 0.0, difference)
    return np.where(where, np.nan_to_num(difference, nan=np.inf), 0.0)


def bound(result):
    """The tolerance, widened where mergekit's float32 sums predictably move the result."""
    return TOLERANCE + (result.slack if result.slack > TOLERANCE / 4 else 0.0)


def against_reference(who, found, result, strict=False):
    """Entries on a tie may be any of the options, all others must be the result. `strict`
    is for wsurg: ties go to the lower index, only close votes are open, and no slack."""
    if found.shape != result.out.shape:
        return [f"{who} has shape {list(found.shape)}, not {list(result.out.shape)}"]
    difference = apart(found, result.out)
    open_ = result.close if strict and result.close is not None else result.unsure
    if open_ is not None and np.any(open_):
        other = np.min([apart(found, o) for o in result.options] or [difference * 0], axis=0)
        difference = np.where(open_, np.minimum(difference, other), difference)
    limit = TOLERANCE if strict else bound(result)
    if worst(difference) > limit:
        return [f"{who} is {worst(difference):.3g} from the reference in "
                f"{int((difference > limit).sum())} of {difference.size} entries"]
    return []


def against_mask(who, found, base, model, result):
    """The kept entries, equal away from ties; of a split tie, as many as the rule says."""
    changed = found != base
    expected = result.keep[0] & (model != base)
    ties = result.ties[0]
    tied = np.any([t for t, _ in ties], axis=0) if ties else np.zeros(base.shape, bool)
    wrong = int(np.sum((changed != expected) & ~tied))
    problems = [f"{who} keeps {wrong} entries otherwise"] if wrong else []
    for tie, count in ties:
        kept = int(np.sum(changed & tie))
        if kept != count:
            problems.append(f"{who} keeps {kept} of a tie, the rule says {count}")
    return problems


def judge_tensor(case, version, base, models, ours, theirs):
    """Problems of one tensor, and what mergekit was predicted to do otherwise on it."""
    method = reference.METHODS[case.method]
    faults = [f for f in reference.FAULTS.get(case.method, [])
              if version and f(version, base, models, case.params)]
    result = method(base, models, case.params)
    problems = []
    if ours is not None:
        problems += against_reference("wsurg", ours, result, strict=True)
        if case.mask and not problems:
            problems += against_mask("wsurg", ours, base, models[0], result)
    notes = [f"mergekit's {f.__name__}" for f in faults]
    if theirs is None:
        return problems, notes
    if bound(result) > TOLERANCE:
        notes.append(f"mergekit's float32 sums, {bound(result):.2g} allowed")
    if not faults:
        problems += against_reference("mergekit", theirs, result)
        if case.mask and not problems:
            problems += against_mask("mergekit", theirs, base, models[0], result)
        if ours is not None and ours.shape == theirs.shape:
            sure = True if result.unsure is None else ~result.unsure
            gap = worst(apart(ours, theirs.astype(np.float64), sure))
            if gap > bound(result):
                problems.append(f"wsurg is {gap:.3g} from mergekit")
    elif not reference.UNPREDICTED & set(faults):
        predicted = method(base, models, case.params, version)
        problems += against_reference("mergekit, with its known defect,", theirs, predicted)
    return problems, notes


def judge(case, version, family, ours, theirs):
    """All tensors of a case: problems, and notes on where known defects act."""
    tensors = family.load()
    bases = tensors[case.base or 0]
    problems, notes = [], []
    for who, found in (("wsurg", ours), ("mergekit", theirs)):
        if found is not None and set(found) != set(bases):
            problems.append(f"{who} has other tensors: {sorted(set(found) ^ set(bases))[:3]}")
    for name in sorted(bases):
        base = None if case.base is None else bases[name]
        models = [tensors[m][name] for m in case.models]
        found, remarks = judge_tensor(case, version, base, models,
                                      None if ours is None else ours.get(name),
                                      None if theirs is None else theirs.get(name))
        problems += [f"{name}: {p}" for p in found]
        notes += [f"{name}: {r}" for r in remarks]
    return problems, notes


def compare(case, version, family, ours, answer, path):
    """One check. `ours` is a set of tensors, the exception of wsurg, or None (left out)."""
    if isinstance(ours, Refused):
        return [str(ours)], []
    base = family.load()[case.base or 0]
    expected = reference.aborts(version, case, base, case.models)
    if expected:
        if not answer.startswith(expected):
            return [f"mergekit was to end with {expected}, not {answer}"], []
        problems, _ = judge(case, None, family, ours, None)
        return problems, [f"mergekit ends with {expected}"]
    if answer != "ok":
        return [f"mergekit: {answer}"], []
    return judge(case, version, family, ours, floats(path / "model.safetensors"))
