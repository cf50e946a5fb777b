#!/usr/bin/env python3
"""Checks that execute/quick_ops.cc, which is called with the guest's vector registers in the host's, leaves them alone:
its object file uses none and calls nothing outside itself."""

import re
import subprocess
import sys


def main() -> int:
    objects = [path for path in sys.argv[1].split(";") if path.endswith("quick_ops.cc.o")]
    if len(objects) != 1:
        sys.exit("quick: no object file of quick_ops.cc among those of execute/")
    troubles = []
    for line in subprocess.run(["nm", objects[0]], capture_output=True, text=True, check=True).stdout.splitlines():
        kind, name = line.split()[-2:]
        # Weak symbols are as bad: the linker may take another file's version, compiled with vector registers.
        if kind in "UVWuvw":
            troubles.append(f"needs the symbol {name}: it must be inlined")
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", objects[0]], capture_output=True, text=True, check=True)
    used = sorted(set(re.findall(r"%((?:[xyz]mm|mm|st)\b\S*)", code.stdout)))
    if used:
        troubles.append(f"uses {', '.join(used)}")
    for trouble in troubles:
        print(f"quick_ops.cc: {trouble}")
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
