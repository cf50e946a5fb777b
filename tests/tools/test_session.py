"""The bench harness against engines that are shell scripts."""

import unittest

import paths  # noqa: F401
import bench
from session import Result, run


def script(text: str, *arguments, **options):
    return run(["sh", "-c", text], *arguments, **options)


class SessionTest(unittest.TestCase):
    def test_times_lie_between_the_marks(self):
        done = script("sleep 0.3; echo BENCH-START a; sleep 0.2; echo 'BENCH-END a checksum=12'", ["a"], None, 10)
        self.assertIsNone(done.trouble)
        self.assertEqual(done.results["a"].checksum, "12")
        self.assertGreater(done.results["a"].seconds, 0.15)
        self.assertGreater(done.results["a"].peak_rss, 0)

    def test_marks_that_arrive_together_and_in_pieces(self):
        done = script(r"printf 'x\r\nBENCH-START a\r\nBENCH-END a checksum=1\r\nBENCH-ST'; sleep 0.1; "
                      r"printf 'ART b\r\nBENCH-END b check'; sleep 0.1; printf 'sum=2\r\n'", ["a", "b"], None, 10)
        self.assertIsNone(done.trouble)
        self.assertEqual([done.results[name].checksum for name in "ab"], ["1", "2"])

    def test_what_is_missing_is_named(self):
        done = script("echo BENCH-START a; echo BENCH-END a checksum=; echo BENCH-START b", ["a", "b"], None, 10)
        self.assertEqual(done.trouble, "no result of a, b")
        self.assertIn("status 3", script("exit 3", [], None, 10).trouble)

    def test_an_engine_that_hangs(self):
        self.assertIn("no end", script("exec sleep 60", ["a"], None, 0.2).trouble)

    def test_boot_types_the_power_off(self):
        done = script("printf 'booting\\r\\ndemo# '; read line; test \"$line\" = 'poweroff -f'", ["boot"], None, 10,
                      dialogue=[(b"demo# ", b"poweroff -f\n")], types=True)
        self.assertIsNone(done.trouble)
        self.assertIn("boot", done.results)

    def test_a_different_checksum_is_a_trouble(self):
        made = bench.Bench.__new__(bench.Bench)
        made._engines, made._workloads, made._boot, made.troubles = ["native", "deja"], ["sieve"], False, []
        made._samples = {("sieve", "native"): [Result(1, "a", None, 1)], ("sieve", "deja"): [Result(2, "b", 3, 4)]}
        rows = made.rows()
        self.assertEqual([row["engine"] for row in rows], ["native", "deja"])
        self.assertIn("checksums differ", made.troubles[0])
        self.assertIn("2.00", bench.table(rows, ["sieve"], ["native", "deja"]))

    def test_unknown_names_are_refused(self):
        with self.assertRaisesRegex(SystemExit, "--only: unknown: nonsense"):
            bench.chosen("sieve,nonsense", ["sieve"], "--only")


if __name__ == "__main__":
    unittest.main()
