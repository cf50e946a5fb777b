"""Going back and forth in recordings of Debian's kernel: checkpoints, digests at any moment, damage."""
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "replay"))
from guest_session import TIMEOUT, ReplayTest, deja  # noqa: E402

RANDOM_SEEKS = os.environ["RANDOM_SEEKS"]
FULL = os.environ.get("DEJA_FULL_TRAVEL") == "1"  # a thousand seeks instead of some
SEED = int(os.environ.get("DEJA_SEED", "1"))


class Travel(ReplayTest):
    def record_some_work(self, *options):
        recorder, at = self.record_until_prompt(options=options)
        recorder.type("echo some work; ls -lR /proc/self >/dev/null; dd if=/dev/zero of=/tmp/x bs=1M count=20; sleep 1; echo fin''ished\n")
        at = recorder.expect(b"finished", at)
        recorder.type("relay 20; poweroff -f\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        return messages

    def seek_at_random(self, seeks, chaos=0):
        done = subprocess.run([RANDOM_SEEKS, self.recording, str(seeks), str(SEED), str(chaos)], capture_output=True,
                              text=True, timeout=4 * TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def digest(self, to, *options):
        done = deja("replay", "--to", to, "--digest", *options, self.recording)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"^step \d+ digest cpu [0-9a-f]{16} ram [0-9a-f]{16} devices [0-9a-f]{16}\n$")
        return done

    def test_random_seeks_equal_a_straight_replay(self):
        self.assertRegex(self.record_some_work("--checkpoint-every", "50M"), r"\d+ checkpoints of ")
        self.seek_at_random(1000 if FULL else 80)
        self.assert_identical()

    def test_random_seeks_under_engine_chaos_equal_a_straight_replay(self):
        self.record_some_work("--checkpoint-every", "50M")
        for chaos in range(1, 6 if FULL else 3):
            self.seek_at_random(1000 if FULL else 20, chaos)

    def test_index_makes_checkpoints_that_lead_to_the_same_states(self):
        self.assertNotIn("checkpoints", self.record_some_work("--checkpoint-every", "off"))
        places = ["0", "10%", "55%", "end"]
        before = [self.digest(p).stdout for p in places]
        done = deja("index", "--checkpoint-every", "30M", self.recording)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(int(re.match(r"(\d+) checkpoints of ", done.stdout)[1]), 20)
        self.assertEqual([self.digest(p).stdout for p in places], before)
        self.assertIn(" checkpoints, ", self.seek_at_random(20))
        self.assertEqual([p.name for p in self.recording.glob("checkpoints*")], ["checkpoints.dat"])

    def test_a_damaged_checkpoint_costs_only_time(self):
        self.record_some_work("--checkpoint-every", "100M")
        file = self.recording / "checkpoints.dat"
        sound = file.read_bytes()
        want = self.digest("90%").stdout
        for at in [0, 20, 40, 100, len(sound) // 3, len(sound) // 2, len(sound) - 2000]:
            damaged = bytearray(sound)
            for i in range(at, min(at + 400, len(damaged))):
                damaged[i] ^= 0x55
            file.write_bytes(damaged)
            self.assertEqual(self.digest("90%").stdout, want, f"damaged at byte {at}")
        file.write_bytes(sound[:len(sound) // 2])
        self.assertEqual(self.digest("90%").stdout, want)
        file.write_bytes(b"")
        self.assertEqual(self.digest("90%").stdout, want)

    def test_a_killed_recorder_leaves_what_can_be_travelled(self):
        recorder, at = self.record_until_prompt(options=("--checkpoint-every", "50M"))
        recorder.type("i=0; while :; do i=$((i+1)); done\n")
        recorder.expect(b"done", at)
        recorder.kill()
        self.seek_at_random(20)


if __name__ == "__main__":
    unittest.main()
