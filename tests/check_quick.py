#!/usr/bin/env python3
"""Checks that execute/quick_*.cc, which are called with the guest's vector registers in the host's, leave them alone:
their object files use none and call nothing outside themselves."""

import re
import subprocess
import sys


def troubles_of(path: str) -> list[str]:
    troubles = []
    for line in subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout.splitlines():
        kind, name = line.split()[-2:]
        # Weak symbols are as bad: the linker may take another file's version, compiled with vector registers.
        if kind in "UVWuvw":
            troubles.append(f"needs the symbol {name}: it must be inlined")
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True)
    used = sorted(set(re.findall(r"%((?:[xyz]mm|mm|st)\b\S*)", code.stdout)))
    if used:
        troubles.append(f"uses {', '.join(used)}")
    return troubles


def main() -> int:
    objects = [path for path in sys.argv[1].split(";") if re.search(r"/quick_\w+\.cc\.o$", path)]
    if len(objects) < 2:
        sys.exit("quick: no object files of quick_ops.cc and quick_access.cc among those of execute/")
    found = [f"{path.rsplit('/', 1)[-1][:-2]}: {trouble}" for path in objects for trouble in troubles_of(path)]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
