#!/usr/bin/env python3
"""Checks that nothing is compiled for a CPU beyond the oldest x86-64.

The program says in plain words that a host's CPU is below x86-64-v3. It can only do so if it reaches that check, which the
compiler's own use of newer instructions would prevent; and a package runs on other CPUs than the one that built it.
Instructions that the translator emits, and assembler within the engine, come after the check.

usage: check_portable.py COMPILE_COMMANDS
"""

import json
import re
import sys
from pathlib import Path

# What is about tuning, or takes instructions away, is harmless.
NEWER = re.compile(r"(?:^|\s)(-m(?!tune=|general-regs-only\b|no-)\S+)")


def check(commands: list[dict]) -> list[str]:
    return [f"{unit['file']}: compiled with {flag}" for unit in commands for flag in NEWER.findall(unit["command"])]


if __name__ == "__main__":
    units = json.loads(Path(sys.argv[1]).read_text())
    found = check(units)
    for problem in found:
        print(problem)
    print(f"portable: {len(units)} units, {len(found)} of them compiled for newer CPUs")
    sys.exit(1 if found or not units else 0)
