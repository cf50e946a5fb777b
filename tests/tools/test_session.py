"""The bench harness against engines that are shell scripts."""

import unittest

import paths  # noqa: F401
import base
import bench
import bench_guest
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
        made._engines, made._workloads, made._base, made.troubles = ["native", "deja"], ["sieve"], None, []
        made._samples = {("sieve", "native"): [Result(1, 0, "a", None, 1)],
                         ("sieve", "deja"): [Result(2, 2, "b", 3, 4)]}
        rows = made.rows()
        self.assertEqual([row["engine"] for row in rows], ["native", "deja"])
        self.assertIn("checksums differ", made.troubles[0])
        self.assertIn("2.00", bench.table(rows, ["sieve"], ["native", "deja"]))

    def test_the_base_is_compared_by_the_fastest_rounds(self):
        made = bench.Bench.__new__(bench.Bench)
        made._engines, made._workloads, made._base = ["deja", "deja-record"], ["sieve", "boot"], "base"
        made._samples = {("sieve", "deja"): [Result(9, 3, "a", 0, 1), Result(9, 2.2, "a", 0, 1)],
                         ("sieve", "deja@base"): [Result(9, 2, "a", 0, 1), Result(9, 8, "a", 0, 1)],
                         ("boot", "deja"): [Result(9, 1, "a", 0, 1)], ("boot", "deja@base"): [Result(9, 1, "a", 0, 1)]}
        compared = made.compared()
        self.assertEqual([(name, engine) for name, engine, _ in compared], [("sieve", "deja"), ("boot", "deja")])
        text, worst = bench.comparison(compared, ["sieve", "boot"], ["deja", "deja-record"])
        self.assertAlmostEqual(worst, 1.1 ** 0.5)
        self.assertRegex(text, r"sieve\s+1\.100\s+-\n")

    def test_each_goes_first_in_every_other_round(self):
        made = bench.Bench.__new__(bench.Bench)
        made._engines, made._base = ["deja"], "base"
        self.assertEqual([made._in_turn(1), made._in_turn(2)], [["deja", "deja@base"], ["deja@base", "deja"]])

    def test_what_is_no_base_is_refused(self):
        with self.assertRaisesRegex(SystemExit, "neither an executable nor a revision"):
            base.executable("no-such-revision")
        with self.assertRaisesRegex(SystemExit, "no executable"):
            base.executable(__file__)

    def test_processor_time_is_that_of_the_work_between_the_marks(self):
        busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
        done = script(f"{busy}; echo BENCH-START a; sleep 0.05; echo BENCH-END a checksum=1; "
                      f"echo BENCH-START b; {busy}; echo BENCH-END b checksum=1", ["a", "b"], None, 60)
        self.assertLess(done.results["a"].cpu, done.results["b"].cpu)

    def test_the_sources_of_the_debian_image_are_there(self):
        self.assertEqual([path for path in bench_guest.DEBIAN_SOURCES if not path.exists()], [])

    def test_unknown_names_are_refused(self):
        with self.assertRaisesRegex(SystemExit, "--only: unknown: nonsense"):
            bench.chosen("sieve,nonsense", ["sieve"], "--only")


if __name__ == "__main__":
    unittest.main()
