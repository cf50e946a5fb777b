#!/usr/bin/env python3
"""Replays a golden recording and says what a guest could notice of a change (`./dev golden`, ctest -L golden).

    check.py BUILD FOLDER/NAME…     recordings by their path without suffix; all of them by default

Under each of three engines all digests of the recording are checked, and those of NAME.steps between them; and it is
gone straight to a step in the middle. Status 1: something differs, or a recording cannot be replayed.
"""
import argparse
import re
import sys
import tempfile
from pathlib import Path

import golden
import kernel
from golden import PACKED, STEPS, Programs, run

ENGINES = {"the default engine": [], "--engine max-insns=1": ["--engine", "max-insns=1"],
           "--chaos-engine 10": ["--chaos-engine", "10"]}
VERDICT = "a guest can notice this change: mend it, or raise kMachineBehaviour and keep the old behaviour"
ADVICE = "docs/determinism.md, section 7, and src/machine/behaviour.h tell how"
PARTS = ("cpu", "ram", "devices")


class Differs(Exception):
    """A guest can notice: where, and what; and perhaps a report."""

    def __str__(self):
        return self.args[0]

    def report(self):
        return "".join(f"\n{text}" for text in self.args[1:])


class NotRun(Exception):
    """The recording could not be checked: why."""


def parse(line):
    """(step, {part: digest}) of a line of NAME.steps."""
    step, *words = line.split()
    return int(step), dict(zip(words[::2], words[1::2]))


def first_difference(wanted, got, engine):
    """Compares lines of digests; raises Differs at the first that is not the same."""
    last_good = None
    for line, other in zip(wanted, got):
        (step, digests), (at, found) = parse(line), parse(other)
        if (step, digests) != (at, found):
            parts = [part for part in PARTS if digests[part] != found.get(part)]
            raise Differs(f"at step {step:,} under {engine} differs: {', '.join(parts)}"
                          f" (identical at step {last_good:,})" if last_good is not None else
                          f"at step {step:,} under {engine} differs: {', '.join(parts)} (the first step looked at)")
        last_good = step


class Check:
    def __init__(self, programs, recording, wanted):
        """`wanted`: the lines of NAME.steps."""
        self.programs, self.recording, self.wanted = programs, recording, wanted

    def steps(self, name, engine):
        """The digests at the listed steps. What stops the replay on the way comes after those before it."""
        with tempfile.NamedTemporaryFile("w", suffix=".steps") as steps:
            steps.writelines(f"{parse(line)[0]}\n" for line in self.wanted)
            steps.flush()
            done = run(self.programs.step_digests, "at", "--whole", self.recording, "--steps", steps.name, *engine)
        got = done.stdout.splitlines()
        first_difference(self.wanted, got, name)
        if done.returncode != 0 or len(got) != len(self.wanted):
            raise Differs(f"behind step {parse(got[-1])[0] if got else 0:,} under {name}: {done.stderr.strip()}")

    def verify(self, name, engine):
        done = run(self.programs.deja, "verify", *engine, self.recording)
        if done.returncode == 0 and re.match(r"identical: \d+ instructions, [1-9]\d* digests$", done.stdout.strip()):
            return
        if diverged := re.search(r"^DIVERGED at step (\d+): (.*)$", done.stdout, re.M):
            raise Differs(f"at step {int(diverged[1]):,} under {name}: {diverged[2]}", done.stdout + done.stderr)
        raise Differs(f"`deja verify` under {name}: {done.stdout.strip()} {done.stderr.strip()}")

    def seek(self):
        """To a listed step in the middle, by the nearest checkpoint."""
        line = self.wanted[len(self.wanted) // 2]
        step = parse(line)[0]
        done = run(self.programs.deja, "replay", "--to", step, "--digest", self.recording)
        if done.stdout.strip() != f"step {line.replace(' ', ' digest ', 1)}":
            raise Differs(f"sought step {step:,}: {done.stdout.strip()} {done.stderr.strip()}; recorded was: {line}")

    def all(self):
        for name, engine in ENGINES.items():
            self.steps(name, engine)
            self.verify(name, engine)
        self.seek()


def open_recording(programs, path, folder):
    """The golden recording as a recording in `folder`; raises NotRun."""
    target = folder / f"{path.name}.deja"
    wanted = golden.kernel_of(path)
    if wanted:
        try:
            golden.copy_with_kernel(path, target, kernel.find(wanted))
        except kernel.NotToBeHad as reason:
            raise NotRun(f"its kernel is not to be had: {reason}. tests/golden/README.md tells what to do") from reason
    else:
        done = run(programs.deja, "unpack", path.with_suffix(PACKED), "-o", target)
        if done.returncode != 0:
            raise Differs(f"`deja unpack`: {done.stderr.strip()}")
    return target


def check(programs, path):
    """None, or what is wrong."""
    name = f"{path.parent.name}/{path.name}"
    steps = path.with_suffix(STEPS)
    try:
        wanted = steps.read_text().splitlines() if steps.exists() else []
        if not wanted:
            raise NotRun(f"{steps.name} is missing or empty")
        with tempfile.TemporaryDirectory(prefix="deja-golden-") as folder:
            recording = open_recording(programs, path, Path(folder))
            refused = run(programs.deja, "replay", "--quiet", "--to", "start", recording)
            if "which this host's CPU lacks" in refused.stderr:
                raise NotRun(refused.stderr.strip())
            Check(programs, recording, wanted).all()
    except Differs as difference:
        return f"golden recording {name}: {difference}\n{VERDICT}\n({ADVICE}){difference.report()}"
    except NotRun as reason:
        return f"NOT RUN: golden recording {name}: {reason}"
    return None


SUFFIXES = (".dejavm", ".deja", ".steps")


def main():
    parser = argparse.ArgumentParser(prog="./dev golden", description="Replays golden recordings and compares digests.")
    parser.add_argument("build", type=Path)
    parser.add_argument("recordings", nargs="*", type=Path, help="paths, with suffix or without [all]")
    options = parser.parse_args()
    programs = Programs.of_build(options.build)
    wrong = 0
    for path in options.recordings or golden.recordings():
        problem = check(programs, (path.with_suffix("") if path.suffix in SUFFIXES else path).resolve())
        wrong += problem is not None
        print(problem or f"identical: {path.parent.name}/{path.name}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
