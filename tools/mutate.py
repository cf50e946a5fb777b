"""Changes one thing at a time in a source file, and tells which changes no test notices.

A change is a *mutant*: an operator or a number that became another, a condition that is always true or false, a statement
that is gone. A mutant that the tests of its file do not notice is a *survivor*: it asks for a test, unless the program
does the same with it. Mutants are made in a copy of the sources.
"""

import argparse
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

EXAMPLES = """examples:
  ./dev mutate                                  some mutants of each file
  ./dev mutate --all src/guest/page_walk.cc     every mutant of one
  ./dev mutate --seed 5 --count 30              others than yesterday's
  ./dev mutate src/guest/page_walk.cc:57        those of one line
"""


@dataclass(frozen=True)
class Subject:
    """A file with what is built and run to test it, the quickest first."""
    targets: list[str]
    tests: list[list[str]]


CONFORMANCE = ["fuzz/conformance_fuzz", "--seed", "1", "--count", "3000"]
SUBJECTS = {
    "src/semantics/flag_ops.cc": Subject(["semantics_test", "conformance_fuzz"],
                                         [["semantics_test"], CONFORMANCE]),
    "src/guest/page_walk.cc": Subject(["guest_test"], [["guest_test"]]),
    "src/translate/plan.cc": Subject(["translate_test", "execute_test", "conformance_fuzz"],
                                     [["translate_test"], ["execute_test"], CONFORMANCE]),
    "src/eventlog/event_codec.cc": Subject(["eventlog_test"], [["eventlog_test"]]),
}

# Each with what may stand in its place.
OPERATORS = {"==": ["!="], "!=": ["=="], "<": ["<=", ">="], "<=": ["<", ">"], ">": [">=", "<="], ">=": [">", "<"],
             "&&": ["||"], "||": ["&&"], "+": ["-"], "-": ["+"], "*": ["+"], "/": ["*"], "%": ["*"], "&": ["|"], "|": ["&"],
             "^": ["|"], "<<": [">>"], ">>": ["<<"], "!": [""], "~": [""], "true": ["false"], "false": ["true"],
             "+=": ["-="], "-=": ["+="], "|=": ["&=", "="], "&=": ["|="], "++": ["--"], "--": ["++"],
             "min": ["max"], "max": ["min"]}
TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])+'|\#[^\n]*|->|::|<=>|<<=|>>=|\.\.\.
                       |[<>=!+\-*/%&|^]=|<<|>>|&&|\|\||\+\+|--|0[xX][0-9a-fA-F']+|[A-Za-z_]\w*|\d[\w.']*|\S""", re.X | re.S)
# An assignment or a call on a line of its own; a declaration begins with a type.
STATEMENT = re.compile(r"^( +)(?!return\b|static_assert|DEJA_)[\w:.>\[\]-]+(?: [|&^+-]?= |\()[^/\n]*;$", re.M)
CONDITION = re.compile(r"\b(?:if|while) \(([^;{}\n]*)\)(?= |$)", re.M)


@dataclass(frozen=True)
class Mutant:
    line: int
    begin: int
    end: int
    instead: str
    was: str

    def text(self) -> str:
        return f"{self.line}: {' '.join(self.was.split())}  ->  {' '.join(self.instead.split()) or '(gone)'}"


def balanced(text: str) -> bool:
    depth = 0
    for c in text:
        depth += (c == "(") - (c == ")")
        if depth < 0:
            return False
    return depth == 0


def mutants(source: str) -> list[Mutant]:
    """All of them, in the order of the source; templates' brackets and types look like operators, and do not compile."""
    found = []

    def add(begin: int, end: int, instead: str) -> None:
        found.append(Mutant(source.count("\n", 0, begin) + 1, begin, end, instead, source[begin:end]))

    for token in TOKEN.finditer(source):
        text = token[0]
        for instead in OPERATORS.get(text, []):
            add(*token.span(), instead)
        if re.fullmatch(r"\d+|0[xX][0-9a-fA-F]+", text):
            add(*token.span(), str(int(text, 0) + 1))
    for statement in STATEMENT.finditer(source):
        if balanced(statement[0]):
            add(statement.start() + len(statement[1]), statement.end(), ";")
    for condition in CONDITION.finditer(source):
        if balanced(condition[1]) and ";" not in condition[1]:
            for value in ("true", "false"):
                add(*condition.span(1), value)
    return sorted(found, key=lambda mutant: (mutant.begin, mutant.end, mutant.instead))


class Bed:
    """A copy of the sources with a build of its own, in which one file is changed at a time."""

    def __init__(self, folder: Path, jobs: int):
        self._source, self._build, self._jobs = folder / "source", folder / "build", jobs

    def prepare(self, targets: list[str]) -> None:
        self._copy()
        if not (self._build / "build.ninja").exists():
            self._must(["cmake", "-S", self._source, "-B", self._build, "-G", "Ninja"])
        self._must(["ninja", "-C", self._build, "-j", str(self._jobs), *targets])

    def _copy(self) -> None:
        """Files that are the same stay untouched, so that only what changed is built again."""
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z"], check=True,
                                stdout=subprocess.PIPE).stdout.decode().split("\0")
        for name in filter(None, listed):
            ours, copy = ROOT / name, self._source / name
            if not ours.is_file() or (copy.exists() and copy.read_bytes() == ours.read_bytes()):
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ours, copy)

    def _must(self, command: list) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"mutate: {' '.join(map(str, command))} failed:\n{done.stdout[-3000:]}")

    def passes(self, subject: Subject, limits: list[float] | None = None) -> tuple[str, list[float]]:
        """What became of it, and how long each test took."""
        built = subprocess.run(["ninja", "-C", self._build, "-j", str(self._jobs), *subject.targets], stdout=subprocess.DEVNULL)
        if built.returncode != 0:
            return "does not compile", []
        times = []
        for i, (program, *arguments) in enumerate(subject.tests):
            started = time.monotonic()
            try:
                done = subprocess.run([self._build / program, *arguments], stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=self._build,
                                      timeout=limits[i] if limits else None)
            except subprocess.TimeoutExpired:
                return "found: does not end", times
            times.append(time.monotonic() - started)
            if done.returncode != 0:
                return f"found by {Path(program).name}", times
        return "survives", times

    def with_mutant(self, name: str, mutant: Mutant, subject: Subject, limits: list[float]) -> str:
        path = self._source / name
        source = path.read_text()
        try:
            path.write_text(source[:mutant.begin] + mutant.instead + source[mutant.end:])
            return self.passes(subject, limits)[0]
        finally:
            path.write_text(source)


def chosen(names: list[str]) -> dict[str, int | None]:
    """Files, each with the line that is asked for."""
    found = {}
    for name in names:
        path, _, line = name.partition(":")
        if path not in SUBJECTS:
            sys.exit(f"mutate: no tests are named for {path}; there are: {', '.join(SUBJECTS)}")
        if line and not line.isdigit():
            sys.exit(f"mutate: {line} is no line")
        found[path] = int(line) if line else None
    return found or dict.fromkeys(SUBJECTS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev mutate", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="*", metavar="FILE[:LINE]", help=f"of: {', '.join(SUBJECTS)} (default: all)")
    parser.add_argument("--count", type=int, default=25, help="mutants of each file, drawn by --seed (default: 25)")
    parser.add_argument("--all", action="store_true", help="every mutant")
    parser.add_argument("--seed", type=int, default=0, help="which ones are drawn (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="for compiling (default: 2)")
    parser.add_argument("--bed", type=Path, default=ROOT / "build-mutate",
                        help="folder for the copy and its build (default: build-mutate)")
    options = parser.parse_args()
    files = chosen(options.file)
    bed = Bed(options.bed.resolve(), options.jobs)
    print("mutate: building a copy of the sources", file=sys.stderr)
    bed.prepare(sorted({target for name in files for target in SUBJECTS[name].targets}))
    survivors, tried, found = [], 0, 0
    for name, line in files.items():
        subject = SUBJECTS[name]
        outcome, times = bed.passes(subject)
        if outcome != "survives":
            sys.exit(f"mutate: the tests of {name} fail as it is: {outcome}")
        limits = [5 + 10 * seconds for seconds in times]
        all_of_it = [mutant for mutant in mutants((ROOT / name).read_text()) if line in (None, mutant.line)]
        some = all_of_it if options.all or line else random.Random(f"{options.seed} {name}").sample(
            all_of_it, min(options.count, len(all_of_it)))
        for i, mutant in enumerate(sorted(some, key=lambda mutant: mutant.begin), 1):
            outcome = bed.with_mutant(name, mutant, subject, limits)
            print(f"{name}:{mutant.text()}: {outcome}", flush=True)
            print(f"mutate: {name}: {i} of {len(some)}", file=sys.stderr)
            tried += outcome != "does not compile"
            found += outcome.startswith("found")
            if outcome == "survives":
                survivors.append(f"{name}:{mutant.text()}")
    print(f"\n{tried} mutants, {found} found, {len(survivors)} survive")
    for survivor in survivors:
        print(f"  {survivor}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
