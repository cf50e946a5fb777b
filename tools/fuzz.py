"""Runs the fuzzers, each in turn with a new seed, until the time is up or one fails.

A fuzzer is a program of the build whose name ends in _fuzz. It does a bounded run for `--seed N`, always the same for
the same seed, and exits with a status other than zero when it found something.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path


def fuzzers(build: Path) -> dict[str, Path]:
    found = (path for path in build.rglob("*_fuzz") if path.is_file() and os.access(path, os.X_OK))
    return {path.name.removesuffix("_fuzz"): path for path in sorted(found)}


def main() -> int:
    build = Path(sys.argv[1])
    known = fuzzers(build)
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="*", choices=[[], *known], metavar="NAME",
                        help=f"which ones (default: all): {', '.join(known) or 'there are none yet'}")
    parser.add_argument("--seconds", type=float, default=3600, help="for how long (default: one hour)")
    parser.add_argument("--seed", type=int, help="run this seed only, to see a failure again")
    options = parser.parse_args(sys.argv[2:])
    chosen = {name: known[name] for name in options.name or known}
    if not chosen:
        sys.exit("fuzz: the build has no fuzzers (programs whose name ends in _fuzz)")

    seed = options.seed if options.seed is not None else time.time_ns() % 2**32
    ends, runs = time.monotonic() + options.seconds, 0
    while True:
        for name, program in chosen.items():
            command = [str(program), "--seed", str(seed)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
            runs += 1
            if done.returncode != 0:
                print(done.stdout)
                print(f"fuzz: {name} found something (exit status {done.returncode}); again with:\n"
                      f"  ./dev fuzz {name} --seed {seed}")
                return 1
            print(f"fuzz: {runs} runs, {max(0, ends - time.monotonic()):.0f} s left, {name} seed {seed}: nothing",
                  end="\r" if sys.stdout.isatty() else "\n", flush=True)
        seed = (seed + 1) % 2**32
        if options.seed is not None or time.monotonic() >= ends:
            print(f"\nfuzz: {runs} runs found nothing")
            return 0


if __name__ == "__main__":
    sys.exit(main())
