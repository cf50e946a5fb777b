"""Scheduling by lot: races that an even schedule hides are found, and what was found can be replayed."""
import unittest

from guest_session import GUESTS, ReplayTest, deja

SEEDS = range(1, 21)
STRUCK = 3  # the debug-exit status of a guest that failed


class Scheduling(ReplayTest):
    def found_with(self, guest, symptom, vcpus):
        """The first seed with which the race strikes; without chaos it strikes seldom."""
        options = ["-m", "64M", "-smp", vcpus, "--kernel", GUESTS / guest]
        quanta = range(150_000, 250_000, 10_000)
        struck = sum(symptom in deja("run", *options, "--quantum", quantum).stdout for quantum in quanta)
        self.assertLess(struck, len(quanta) / 3, "an even schedule mostly hides it")
        for seed in SEEDS:
            if symptom in deja("run", *options, "--chaos", seed).stdout:
                return [*options, "--chaos", seed]
        self.fail(f"no '{symptom}' with {len(SEEDS)} seeds")

    def check(self, guest, symptom, vcpus=2):
        done = deja("record", "-o", self.recording, *self.found_with(guest, symptom, vcpus))
        self.assertEqual(done.returncode, STRUCK, done.stdout + done.stderr)
        self.assertIn(symptom, done.stdout, "the same seed does the same again")
        self.assert_identical()
        self.assert_identical("--chaos-engine", 3)
        self.assertIn(symptom, deja("replay", self.recording).stdout)

    def test_chaos_finds_a_lost_update(self):
        self.check("race_lost_update", "lost update")

    def test_chaos_finds_a_lock_order_deadlock(self):
        self.check("race_deadlock", "deadlock")

    def test_chaos_finds_a_race_with_an_interrupt_on_one_vcpu(self):
        self.check("race_interrupt", "lost update", vcpus=1)

    def test_correct_locks_hold_with_every_seed(self):
        for seed in SEEDS:
            done = deja("run", "-m", "64M", "-smp", 2, "--kernel", GUESTS / "smp", "--chaos", seed)
            self.assertIn("PASS", done.stdout, f"seed {seed}: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    unittest.main()
