"""What ./dev test --sanitize runs, and what it says about the rest."""

import unittest
import xml.etree.ElementTree as xml

import paths
import sanitize

TESTS = [{"name": "A.one", "command": ["/b/base_test", "--x"]}, {"name": "disk_test_NOT_BUILT"},
         {"name": "isa.add", "command": ["/usr/bin/python3"]}, {"name": "A.two", "command": ["/b/base_test"]}]


class SanitizeTest(unittest.TestCase):
    def test_tests_of_chosen_programs_run_and_the_rest_is_counted(self):
        self.assertEqual(sanitize.split(TESTS, ["base_test"]), ([1, 4], {"disk_test": 1, "isa": 1}))

    def test_the_closing_line_counts_everything(self):
        results = xml.fromstring('<s><testcase name="a" status="run"/><testcase name="b" status="fail"/>'
                                 '<testcase name="c" status="notrun"/></s>')
        text, failed = sanitize.closing_line("thread", results, {"disk_test": 1, "python3": 2})
        self.assertEqual(failed, 1)
        self.assertEqual(text.splitlines(), [
            "skipped: c", "failed: b",
            "thread: 2 tests ran, 1 failed, 1 skipped; left out: 1 unit test programs and 2 other tests"])

    def test_what_is_left_out_has_a_reason_and_what_runs_exists(self):
        for name in sanitize.PRESETS:
            for program in sanitize.RUNS[name]:
                self.assertTrue((paths.ROOT / "src" / program.removesuffix("_test")).is_dir(), program)
                self.assertNotIn(program, sanitize.LEFT_OUT[name])
            self.assertTrue(sanitize.reason(name, "execute_test"))
