"""Builds unit tests under GCC's sanitizers (presets asan, ubsan, tsan) and runs them through ctest.

usage: ./dev test --sanitize [address|undefined|thread ...]    (all that have tests, by default)
"""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRESETS = {"undefined": "ubsan", "address": "asan", "thread": "tsan"}

# The one list of what runs under which sanitizer: programs that were seen to pass there.
RUNS = {
    "undefined": ["base_test", "guest_test", "decode_test", "semantics_test", "devices_test", "disk_test"],
    "address": ["base_test", "guest_test", "decode_test"],
    "thread": ["base_test"],
}
# Why a program is left out; one that is in neither list has the reason NOT_TRIED.
NOT_TRIED = "not tried under it yet"
LEFT_OUT = {name: {} for name in PRESETS}
NO_PROGRAM = "runs a script, or a program other than a unit test: not tried under it yet"


def reason(sanitizer: str, program: str) -> str:
    if not program.endswith("_test"):
        return NO_PROGRAM
    return LEFT_OUT[sanitizer].get(program, NOT_TRIED)


def program_of(test: dict) -> str:
    """The unit test program of an entry of `ctest --show-only=json-v1` (not built, it has no command), or the suite."""
    if "command" in test:
        name = Path(test["command"][0]).name
        return name if name.endswith("_test") else test["name"].split(".")[0]
    return test["name"].split(".")[0].removesuffix("_NOT_BUILT")


def split(tests: list[dict], chosen: list[str]) -> tuple[list[int], dict[str, int]]:
    """ctest's numbers of the tests to run, and how many entries of each other program are left out."""
    numbers, others = [], {}
    for number, test in enumerate(tests, 1):
        program = program_of(test)
        if program in chosen:
            numbers.append(number)
        else:
            others[program] = others.get(program, 0) + 1
    return numbers, others


def closing_line(sanitizer: str, results: xml.Element, others: dict[str, int]) -> tuple[str, int]:
    cases = list(results.iter("testcase"))
    failed = [case.get("name") for case in cases if case.get("status") == "fail"]
    skipped = [case.get("name") for case in cases if case.get("status") in ("notrun", "disabled")]
    lines = [f"skipped: {name}" for name in skipped] + [f"failed: {name}" for name in failed]
    unit = sum(program.endswith("_test") for program in others)
    rest = sum(count for program, count in others.items() if not program.endswith("_test"))
    lines.append(f"{sanitizer}: {len(cases) - len(skipped)} tests ran, {len(failed)} failed, {len(skipped)} skipped; "
                 f"left out: {unit} unit test programs and {rest} other tests")
    return "\n".join(lines), len(failed)


def run(sanitizer: str) -> int:
    preset, chosen = PRESETS[sanitizer], RUNS[sanitizer]
    build = ROOT / f"build-{preset}"
    jobs = os.environ.get("JOBS") or str(len(os.sched_getaffinity(0)))
    subprocess.run(["cmake", "--preset", preset, "--log-level=WARNING"], cwd=ROOT, check=True, stdout=sys.stderr)
    if chosen:
        subprocess.run(["ninja", "-C", build, "-j", jobs, *chosen], check=True, stdout=sys.stderr)
    listed = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], check=True, capture_output=True)
    numbers, others = split(json.loads(listed.stdout)["tests"], chosen)
    for program, count in sorted(others.items()):
        print(f"left out: {program} ({count}): {reason(sanitizer, program)}")
    results = build / "test-results.xml"
    results.unlink(missing_ok=True)
    if not numbers:
        print(f"{sanitizer}: 0 tests ran: no program is listed for it in tools/sanitize.py")
        return 1
    # ctest drops a last number that nothing follows.
    (build / "chosen-tests").write_text("0,0,0," + "".join(f"{number}," for number in numbers) + "\n")
    status = subprocess.run(["ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error", "-j", jobs,
                             "-I", build / "chosen-tests", "--output-junit", results]).returncode
    if not results.exists():
        print(f"{sanitizer}: 0 tests ran (ctest wrote no results)")
        return 1
    suite = xml.parse(results).getroot()
    text, failed = closing_line(sanitizer, suite, others)
    print(text)
    if len(list(suite.iter("testcase"))) != len(numbers):
        print(f"{sanitizer}: ctest ran other tests than the {len(numbers)} chosen")
        return 1
    return 1 if failed else status


def main() -> int:
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    for word in words:
        if word not in PRESETS:
            sys.exit(f"there is no sanitizer '{word}' ({', '.join(PRESETS)})")
    if not words:
        words = [name for name in PRESETS if RUNS[name]]
        for name in PRESETS:
            if not RUNS[name]:
                print(f"left out: {name}: no program is listed for it in tools/sanitize.py")
    return max([run(word) for word in words])


if __name__ == "__main__":
    sys.exit(main())
