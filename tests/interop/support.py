"""support.py - the report and the program under test."""

import json
import re
import subprocess
import traceback
from pathlib import Path


class Report:
    """Prints one line per check and keeps the tally."""

    def __init__(self, only=None, verbose=False):
        self.passed = self.failed = self.skipped = 0
        self.only = re.compile(only) if only else None
        self.verbose = verbose

    def wanted(self, name):
        return self.only is None or self.only.search(name)

    def say(self, name, problems, notes=()):
        """A check with its list of problems; none means it passed."""
        if problems:
            self.failed += 1
            print(f"not ok {name}: {'; '.join(problems[:3])}", flush=True)
            for more in problems[3:12]:
                print(f"#   {more}")
        else:
            self.passed += 1
            print(f"ok {name}", flush=True)
        if self.verbose:
            for note in notes:
                print(f"#   {note}")

    def skip(self, name, why):
        self.skipped += 1
        print(f"skip {name}: {why}", flush=True)

    def absent(self, name, why):
        """A check of what this wsurg does not have: not a check that was skipped."""
        if self.verbose:
            print(f"# left out {name}: {why}", flush=True)

    def check(self, name, function, *args):
        """Run one check: the function returns its problems, or (problems, notes), or
        raises Absent."""
        if not self.wanted(name):
            return
        try:
            found = function(*args)
            self.say(name, *(found if isinstance(found, tuple) else [list(found or ())]))
        except Absent as why:
            self.absent(name, str(why))
        except Exception as fault:  # a broken check is a failed check
            self.say(name, [f"{type(fault).__name__}: {fault}"])
            if self.verbose:
                traceback.print_exc()


class Absent(Exception):
    """This wsurg has no such method."""


class Refused(Exception):
    """wsurg ended with a status other than 0."""


class Wsurg:
    """The program under test. Knows which methods and parameters it offers."""

    def __init__(self, binary):
        self.binary = str(binary)
        self.known = {}

    def run(self, *args):
        words = [self.binary, *map(str, args)]
        return subprocess.run(words, capture_output=True, text=True, timeout=300)

    def has(self, method):
        if method not in self.known:
            self.known[method] = self.run("methods", method).returncode == 0
        return self.known[method]

    def has_command(self, command):
        return self.run(command, "--help").returncode == 0

    def json(self, *args):
        done = self.run(*args, "--json")
        if done.returncode not in (0, 1):
            raise Refused(said(done))
        return json.loads(done.stdout)

    def merge(self, out, models, method, params, base=None, extra=()):
        """One merge into the file OUT; the options that every check uses are here."""
        args = ["merge", *models, "--method", method, "-o", out, "-q"]
        args += ["--no-provenance", "--manifest", "none"]
        if base is not None:
            args += ["--base", base]
        for key, value in params.items():
            if key == "rescale" and isinstance(value, bool):  # mergekit's switch, our choice
                value = "l1" if value else "none"
            args += ["--set", f"{key}={spelled(value)}"]
        done = self.run(*args, *extra)
        if done.returncode != 0:
            raise Refused(said(done))
        return Path(out)


def spelled(value):
    """A parameter as the command line wants it: lists are one value per model."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(spelled(v) for v in value)
    return str(value)


def said(done):
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    first = (lines or done.stderr.splitlines() or ["nothing on stderr"])[0]
    return f"wsurg exit {done.returncode}: {first}"
