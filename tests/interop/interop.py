"""interop.py - the checks, in order. Started by run.sh, which makes the environments."""

import argparse
import os
import sys
from pathlib import Path

import compare
import golden
import package_checks
import random_checks
from cases import CASES
from families import families
from support import Refused, Report, Wsurg

HERE = Path(__file__).resolve().parent


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--wsurg", required=True)
    parser.add_argument("--tally", type=Path, required=True)
    parser.add_argument("--oracle", action="store_true")
    parser.add_argument("--peer", action="append", default=[], metavar="VERSION=PYTHON")
    return parser.parse_args()


def known_case(case, version):
    """The methods that a mergekit release lacks."""
    return not (version == "0.1.4" and case.method in ("ram", "ramplus_tl"))


def ours_of(wsurg, case, family, work):
    out = work / f"{family.name}-{case.name}.safetensors"
    try:
        return compare.wsurg_merge(wsurg, case, family, out)
    except Refused as refusal:
        return refusal
    except Exception as fault:  # a crash, a hang, an unreadable file
        return Refused(f"{type(fault).__name__}: {fault}")
    finally:
        out.unlink(missing_ok=True)


def compare_family(report, options, wsurg, family):
    peers = [p.split("=", 1) for p in options.peer]
    cases = [c for c in CASES if any(report.wanted(f"{family.name}/{c.name}/{v}") for v, _ in peers)]
    answers = {}
    for version, python in peers:
        work = options.work / "mergekit" / version / family.name
        jobs = [{"name": c.name, "config": compare.peer_config(c, family), "out": str(work / c.name)}
                for c in cases if known_case(c, version)]
        answers[version] = compare.run_peer(python, HERE / "peer.py", jobs, work) if jobs else {}
    for case in cases:
        if wsurg and not wsurg.has(case.method):
            report.absent(f"{family.name}/{case.name}", f"wsurg has no method {case.method}")
            continue
        ours = ours_of(wsurg, case, family, options.work) if wsurg else None
        for version, _ in peers:
            name = f"{family.name}/{case.name}/{version}"
            if case.name in answers[version]:
                path = options.work / "mergekit" / version / family.name / case.name
                report.check(name, compare.compare, case, version, family, ours,
                             answers[version][case.name], path)


def main():
    options = arguments()
    report = Report(os.environ.get("INTEROP_ONLY"), bool(os.environ.get("INTEROP_VERBOSE")))
    wsurg = None if options.oracle else Wsurg(options.wsurg)
    golden.run(report, wsurg, options.work)
    if wsurg:
        package_checks.run(report, wsurg, options.work)
        random_checks.run(report, wsurg, options.work)
    for name, family, why in families(options.root, options.work):
        if family is None:
            report.skip(name, why)
            continue
        try:
            compare_family(report, options, wsurg, family)
        except Exception as fault:
            report.say(name, [f"{type(fault).__name__}: {fault}"])
    options.tally.write_text(f"{report.passed} {report.failed} {report.skipped}\n", encoding="utf-8")
    sys.stdout.flush()


main()
