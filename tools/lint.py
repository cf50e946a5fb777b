"""Formatting, clang-tidy, layers, banned calls and names in the docs; every finding is printed, any finding fails."""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cache import ROOT

COMMANDS = ROOT / "build" / "lint" / "compile_commands.json"
FOLDERS = ("src", "tests", "fuzz", "bench")


def git(*arguments: str) -> list[str]:
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True).stdout.split("\n")


def sources() -> list[str]:
    tracked = git("ls-files", "--cached", "--others", "--exclude-standard", *FOLDERS)
    return sorted(path for path in set(tracked) if path.endswith((".cc", ".h")) and (ROOT / path).exists())


def changed(base: str) -> set[str]:
    return set(git("diff", "--name-only", base)) | set(git("ls-files", "--others", "--exclude-standard"))


def tidy(path: str) -> str:
    """clang-tidy's findings for one file; its chatter about suppressed warnings goes to stderr and is dropped."""
    done = subprocess.run(["clang-tidy", "--quiet", "-p", COMMANDS.parent, path], cwd=ROOT, text=True,
                          capture_output=True)
    return done.stdout.strip() or (done.stderr.strip() if done.returncode else "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev lint")
    parser.add_argument("--all", action="store_true", help="clang-tidy on every file, not only on changed ones")
    parser.add_argument("--base", default="HEAD~1", help="what changed files are compared with (default: %(default)s)")
    options = parser.parse_args()
    failures = 0

    files = sources()
    print(f"lint: clang-format on {len(files)} files", file=sys.stderr)
    formatted = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], cwd=ROOT, capture_output=True, text=True)
    if formatted.returncode:
        print(formatted.stderr.strip())
        failures += 1

    for rule in ("layers", "banned", "docs", "functions"):
        failures += subprocess.run([sys.executable, ROOT / "tests" / f"check_{rule}.py"]).returncode != 0

    # Clang refuses the declarations of the standard library without floating point, which GCC lets pass.
    compiled = (ROOT / "build" / "compile_commands.json").read_text().replace("-mgeneral-regs-only", "")
    COMMANDS.parent.mkdir(exist_ok=True)
    COMMANDS.write_text(compiled)
    units = [path for path in files if path.endswith(".cc") and str(ROOT / path) in compiled]
    if not options.all:
        touched = changed(options.base)
        units = [path for path in units if path in touched]
    print(f"lint: clang-tidy on {len(units)} files", file=sys.stderr)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for findings in pool.map(tidy, units):
            if findings:
                print(findings)
                failures += 1
    print("lint: clean" if not failures else f"lint: {failures} check(s) found something", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
