#!/usr/bin/env python3
"""What leaving translated code costs: tests/guest/exit_costs.c does one thing over and over. Prints nanoseconds of the
process's CPU time for each, which other work on the host disturbs less than wall-clock time, without those of a run that
does nothing; with --compare, also those of another executable, the two taking turns."""

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import base

ROOT = Path(__file__).resolve().parent.parent
ONE = """work in in_nobody out cr8_read cr8_write mmio_lapic mmio_lapic_write mmio_ioapic pause rdmsr_tpr rdmsr_count
    wrmsr_tpr""".split()
TWO = ["work", "pause_handover", "wake_up"]
MACHINES = [("one vCPU", [], ONE), ("one vCPU, --chaos 1", ["--chaos", "1"], ["work", "in"]),
            ("two vCPUs", ["--smp", "2"], TWO), ("two vCPUs, --quantum 1000", ["--smp", "2", "--quantum", "1000"], ["work"]),
            ("two vCPUs, --chaos 1", ["--smp", "2", "--chaos", "1"], TWO)]


def run(deja: Path, options: list[str], what: str) -> tuple[float, int]:
    """CPU seconds, and how many times the guest did it."""
    command = [str(deja), "run", "-m", "64M", *options, "--kernel", str(ROOT / "build/tests/guest/exit_costs"), "--append", what]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    times = re.search(rb"(\d+) times", output)
    if not times:
        sys.exit(f"exits: nothing was measured: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, int(times[1])


def measure(deja: Path, options: list[str], what: str) -> float:
    """Nanoseconds for doing it once."""
    idle, _ = run(deja, options, "nothing")
    seconds, times = run(deja, options, what)
    return (seconds - idle) / times * 1e9


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench --exits", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds; medians are shown (default: 3)")
    parser.add_argument("--only", metavar="A,B", help=f"of: {', '.join(dict.fromkeys(ONE + TWO))}")
    parser.add_argument("--deja", type=Path, default=ROOT / "build/deja", help="default: build/deja")
    parser.add_argument("--compare", type=base.executable, metavar="BASE",
                        help="another executable, or a revision, which is built")
    args = parser.parse_args()
    engines = [args.deja] + ([args.compare] if args.compare else [])
    for title, options, things in MACHINES:
        print(f"{title:27}      ns" + ("       base   times faster" if args.compare else ""))
        for what in things:
            if args.only and what not in args.only.split(","):
                continue
            rounds = [[measure(deja, options, what) for deja in engines] for _ in range(args.runs)]
            ns = [statistics.median(r[i] for r in rounds) for i in range(len(engines))]
            faster = statistics.median(r[-1] / r[0] for r in rounds)
            print(f"  {what:20}{ns[0]:11.1f}" + (f"{ns[1]:11.1f}{faster:10.1f}" if args.compare else ""), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
