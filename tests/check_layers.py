#!/usr/bin/env python3
"""Checks that a folder under src/ includes only from itself and from the folders before it.

The order is DEJA_LAYERS of CMakeLists.txt, so that there is one list. Tests may use every header they can link.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def check(root: Path) -> list[str]:
    order = re.search(r"set\(DEJA_LAYERS ([\w\s]+)\)", (root / "CMakeLists.txt").read_text()).group(1).split()
    problems = []
    for folder in sorted(path for path in (root / "src").iterdir() if path.is_dir()):
        if folder.name not in order:
            problems.append(f"src/{folder.name}: not in DEJA_LAYERS of CMakeLists.txt")
            continue
        allowed = order[:order.index(folder.name) + 1]
        for file in sorted(folder.rglob("*")):
            if file.suffix not in (".h", ".cc", ".c", ".S", ".inc"):
                continue
            text = file.read_text()
            for match in INCLUDE.finditer(text):
                included = match.group(1)
                layer = included.split("/")[0]
                where = f"{file.relative_to(root)}:{text.count(chr(10), 0, match.start(1)) + 1}"
                if layer not in order:
                    problems.append(f'{where}: "{included}" does not start with a layer: write "{folder.name}/…" '
                                    "for our own headers, <…> for others'")
                elif layer not in allowed:
                    problems.append(f'{where}: {folder.name} must not know {layer} ("{included}"): '
                                    f"layers are {' '.join(order)}")
                elif not (root / "src" / included).exists():
                    problems.append(f'{where}: "{included}" does not exist under src/')
    return problems


if __name__ == "__main__":
    found = check(ROOT)
    print("\n".join(found) or "layers: every include points to its own or a lower layer")
    sys.exit(bool(found))
