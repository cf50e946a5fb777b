"""Runs the whole test suite through ctest and closes with a line that counts passed, failed and skipped tests."""

import os
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path


def main() -> int:
    build = Path(sys.argv[1])
    results = build / "test-results.xml"
    results.unlink(missing_ok=True)
    jobs = os.environ.get("JOBS") or str(len(os.sched_getaffinity(0)))
    status = subprocess.run(["ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error", "-j", jobs,
                             "--output-junit", results, *sys.argv[2:]]).returncode
    if not results.exists():
        print("0 passed, 1 failed (ctest ran no test)")
        return status or 1
    suite = xml.parse(results).getroot()
    failed = [case.get("name") for case in suite.iter("testcase") if case.get("status") == "fail"]
    skipped = [case.get("name") for case in suite.iter("testcase") if case.get("status") in ("notrun", "disabled")]
    for name in skipped:
        print(f"skipped: {name}")
    for name in failed:
        print(f"failed: {name}")
    passed = int(suite.get("tests")) - len(failed) - len(skipped)
    print(f"{passed} passed, {len(failed)} failed" + (f", {len(skipped)} skipped" if skipped else ""))
    return 1 if failed else status


if __name__ == "__main__":
    sys.exit(main())
