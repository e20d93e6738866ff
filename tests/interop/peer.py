"""peer.py - runs inside mergekit's own environment: peer.py JOBS.json RESULTS.json

JOBS is a list of {name, config, out}; RESULTS maps each name to "ok" or to the exception.
"""

import json
import logging
import sys
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

import torch  # noqa: E402
from mergekit.config import MergeConfiguration  # noqa: E402
from mergekit.merge import run_merge  # noqa: E402
from mergekit.options import MergeOptions  # noqa: E402


def main():
    jobs_path, results_path = sys.argv[1:]
    with open(jobs_path, encoding="utf-8") as f:
        jobs = json.load(f)
    torch.manual_seed(0)
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    results = {}
    for job in jobs:
        try:
            config = MergeConfiguration.model_validate(job["config"])
            run_merge(config, job["out"], options=options)
            results[job["name"]] = "ok"
        except Exception as fault:  # what it raises is a result, too
            results[job["name"]] = f"{type(fault).__name__}: {fault}"[:300]
    with open(results_path, "w", encoding="utf-8") as f:
        json.dump(results, f)


main()
