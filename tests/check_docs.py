#!/usr/bin/env python3
"""Checks that every file that the documentation or a comment names is in the tree, and that links lead somewhere.

A path is checked where it begins with a folder of the tree (`src/…`, `docs/…`) or of src/ (`machine/boot.h`); the name
of a file alone, in backquotes, where it ends like one of the sources. `*` stands for anything. What is named as an
example, and need not exist, is in EXAMPLES.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATH = re.compile(r"(?<![\w/.$~{}-])((?:[\w.-]+/)+[\w.*-]*)")
FILE = re.compile(r"`([\w*-]+\.(?:cc|h|S|py|md|cmake|ld))(?::\d+)?`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.M | re.S)
COMMENT = re.compile(r"(?://|#) .*")
# Examples in docs/add-a-device.md and others, and files of QEMU's and VirtualBox's sources.
EXAMPLES = {"build/", "x_test.cc", "x_for_test.h", "x.cc", "x.h", "src/devices/alarm.h", "src/devices/alarm_test.cc",
            "docs/specs/standard-vga.rst", "docs/specs/fw_cfg.rst", "docs/interop/qcow2.txt",
            "src/VBox/Storage/VDICore.h"}
UNCHECKED = {"tests/tools/test_rules.py"}  # it tests this, with names of files that are not there
IGNORED_FOLDERS = {"build", ".git", ".cache", "soak-failures"}


def tree_of(root: Path) -> set[str]:
    """Every file and folder (with a slash), by its path."""
    paths, folders = set(), [root]
    while folders:
        for entry in folders.pop().iterdir():
            if entry.name in IGNORED_FOLDERS or entry.name == "__pycache__" or entry.name.startswith("build-"):
                continue
            name = entry.relative_to(root).as_posix()
            paths.add(name + "/" if entry.is_dir() else name)
            if entry.is_dir():
                folders.append(entry)
    return paths


class Checker:
    def __init__(self, root: Path):
        self._root = root
        self._tree = tree_of(root)
        self._names = {path.rstrip("/").rpartition("/")[2] for path in self._tree if not path.endswith("/")}
        self._top = {path for path in self._tree if path.count("/") == 1 and path.endswith("/")}
        self._layers = {path for path in self._tree if path.startswith("src/") and path.count("/") == 2 and path.endswith("/")}

    def _exists(self, path: str) -> bool:
        if path in EXAMPLES:
            return True
        if "*" in path:
            pattern = re.compile(re.escape(path).replace(r"\*", "[^/]*"))
            return any(pattern.fullmatch(known.rstrip("/")) for known in self._tree)
        return path in self._tree or path.rstrip("/") + "/" in self._tree

    def _problem_of_path(self, text: str, beside: str) -> str:
        path = re.sub(r"(?:\.(?!\w)|[:-])+$", "", text)
        first = path.partition("/")[0] + "/"
        if "src/" + first in self._layers:
            found = self._exists("src/" + path) or self._exists(path) or self._exists(beside + path)
            # An extension tells a file's name from words with slashes between them.
            return "" if found or not re.search(r"\.(cc|h|S|py|md|cmake)$", path) else f"there is no src/{path}"
        if first in self._top and first not in EXAMPLES:
            return "" if self._exists(path) or self._exists(beside + path) else f"there is no {path}"
        return ""

    def check_text(self, name: str, text: str) -> list[str]:
        beside = name.rpartition("/")[0] + "/" if "/" in name else ""
        problems = []
        for number, line in enumerate(text.splitlines(), 1):
            if not name.endswith(".md"):
                line = " ".join(COMMENT.findall(line))
            found = [self._problem_of_path(match[1], beside) for match in PATH.finditer(re.sub(r"\w+://\S+", "", line))]
            if name.endswith(".md"):
                found += [f"there is no file {file}" for file in FILE.findall(line)
                          if file not in EXAMPLES and not self._known_name(file)]
            problems += [f"{name}:{number}: {problem}" for problem in found if problem]
        if name.endswith(".md"):
            found = [self._problem_of_link(name, link) for link in LINK.findall(CODE.sub("", text))]
            problems += [f"{name}: {problem}" for problem in found if problem]
        return problems

    def _known_name(self, name: str) -> bool:
        pattern = re.compile(re.escape(name).replace(r"\*", ".*"))
        return any(pattern.fullmatch(known) for known in self._names)

    def _problem_of_link(self, name: str, link: str) -> str:
        if "://" in link:
            return ""
        file, _, anchor = link.partition("#")
        target = (self._root / name).parent / file if file else self._root / name
        if not target.exists():
            return f"the link {link} leads nowhere"
        if anchor and anchor not in anchors(target.read_text()):
            return f"the link {link} leads to no heading of {target.name}"
        return ""

    def check(self) -> list[str]:
        problems = []
        for name in sorted(self._tree):
            if name in UNCHECKED:
                continue
            if name.endswith(".md") or re.fullmatch(r"(?:src|tests|fuzz|bench|tools)/.*\.(?:cc|h|py|S)|.*CMakeLists\.txt", name):
                problems += self.check_text(name, (self._root / name).read_text())
        return problems


def anchors(text: str) -> set[str]:
    """Those of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", text), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


if __name__ == "__main__":
    found = Checker(ROOT).check()
    print("\n".join(found) or "docs: every file and heading that is named is there")
    sys.exit(bool(found))
