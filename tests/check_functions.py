#!/usr/bin/env python3
"""Checks that no function of the product is longer than a reader can hold in mind.

The code is in the form that clang-format gives it: a function begins with a line that ends in `{` and ends with a `}` of
the same indentation.

usage: check_functions.py [FILE…]
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES = 80
# What opens a brace in the first columns and is no function.
OTHER = re.compile(r"\s*(namespace|struct|class|enum|union|extern|template <class T>$)\b|.*= \{$")


def long_functions(text: str) -> list[tuple[int, int]]:
    """(line, lines) of each function that is too long."""
    lines, found = text.split("\n"), []
    for indent in ("", "  "):  # free functions, and members within a class
        i = 0
        while i < len(lines):
            line = lines[i]
            begins = line.startswith(indent) and line[len(indent):len(indent) + 1] not in (" ", "}", "") and line.endswith("{")
            # The parameters may begin some lines before.
            if begins and not OTHER.match(line) and "(" in "".join(lines[max(0, i - 3):i + 1]):
                end = next((j for j in range(i + 1, len(lines)) if lines[j].startswith(indent + "}")), len(lines) - 1)
                if end - i + 1 > MOST_LINES:
                    found.append((i + 1, end - i + 1))
                i = end
            i += 1
    return sorted(found)


def product_files() -> list[Path]:
    return [path for path in sorted((ROOT / "src").rglob("*")) if path.suffix in (".cc", ".h")
            and not path.stem.endswith(("_test", "_for_test"))]


def main() -> int:
    files = [Path(name) for name in sys.argv[1:]] or product_files()
    problems = [f"{path}:{line}: {length} lines in one function; at most {MOST_LINES}"
                for path in files for line, length in long_functions(path.read_text())]
    print("\n".join(problems) or f"{len(files)} files: no function is longer than {MOST_LINES} lines")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
