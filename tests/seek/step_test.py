"""No engine may run past the step at which it is to stop, and none may come to another state there: digests at thousands
of single steps, at random and right around the ends of turns, timers' moments and inputs, are compared between engines."""
import json
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "replay"))
from guest_session import GUESTS, TIMEOUT, ReplayTest, deja  # noqa: E402

STEP_DIGESTS = os.environ["STEP_DIGESTS"]
SEED = int(os.environ.get("DEJA_SEED", "1"))


def step_digests(*arguments):
    return subprocess.run([STEP_DIGESTS, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=4 * TIMEOUT, text=True, errors="replace")


def switches():
    """Each optimisation off, from the list that the program has."""
    listed = re.search(r"list of: (.*?)max-insns", deja("verify", "--help").stdout, re.DOTALL)[1]
    return re.findall(r"no-[a-z-]*[a-z]", listed)


class Steps(ReplayTest):
    def pick(self, recording, **counts):
        """A file of steps worth a look."""
        done = step_digests("pick", recording, "--seed", SEED, *(x for k, v in counts.items() for x in (f"--{k}", v)))
        self.assertEqual(done.returncode, 0, done.stderr)
        steps = self.folder / f"{recording.stem}.steps"
        steps.write_text(done.stdout)
        return steps

    def compare(self, recording, steps, engines):
        want = step_digests("at", recording, "--steps", steps)
        self.assertEqual(want.returncode, 0, f"the default engine: {want.stderr}")
        why = dict(line.split(" ", 1) for line in steps.read_text().splitlines())
        for engine in engines:
            got = step_digests("at", recording, "--steps", steps, *engine)
            for a, b in zip(want.stdout.splitlines(), got.stdout.splitlines()):
                self.assertEqual(a, b, f"seed {SEED}, {engine}: differs first at a step picked as {why[a.split()[0]]}")
            self.assertEqual(got.returncode, 0, f"seed {SEED}, {engine}: {got.stderr}")

    def strings_in_all_places(self, vcpus, *options):
        done = deja("record", "-o", self.recording, "-m", "64M", "-smp", vcpus, "--kernel", GUESTS / "rep_shapes", *options)
        self.assertIn("PASS", done.stdout, done.stdout + done.stderr)
        steps = self.pick(self.recording, random=8000 // vcpus, turns=600, timers=600)
        engines = [("--engine", name) for name in [*switches(), "max-insns=1", "max-insns=5"]]
        self.compare(self.recording, steps, [*engines, *(("--chaos-engine", chaos) for chaos in (1, 2))])

    def test_strings_on_one_vcpu(self):
        self.strings_in_all_places(1, "--chaos", 3)

    def test_strings_on_two_vcpus(self):
        self.strings_in_all_places(2, "--quantum", 5000)

    def test_strings_on_four_vcpus(self):
        self.strings_in_all_places(4, "--quantum", 20000, "--chaos", 4)

    def busy_linux(self, vcpus, *options, length=50_000_000):
        """Records it; returns a recording of so many steps of the last part of the work."""
        recorder, at = self.record_until_prompt(append="console=ttyS0 quiet", options=("-smp", str(vcpus), *options))
        pipeline = "(dd if=/dev/zero bs=64k count=60 2>/dev/null | md5sum) &"
        recorder.type(f"{(vcpus + 1) * pipeline} tour; wait; echo fin''ished\n")
        recorder.expect(b"finished", at)
        self.power_off(recorder)
        end = json.loads(deja("info", "--json", self.recording).stdout)["steps"]
        window = self.folder / "window.deja"
        done = deja("trim", self.recording, "--from", end - 10_000_000 - length, "--to", end - 10_000_000,
                    "-o", window.with_suffix(""))
        self.assertEqual(done.returncode, 0, done.stderr)
        return window

    def compare_all(self, recording, chaos):
        engines = [("--engine", name) for name in [*switches(), "max-insns=1"]]
        self.compare(recording, self.pick(recording, random=300, turns=300), [*engines, ("--chaos-engine", chaos)])

    def compare_some(self, recording):
        steps = self.pick(recording, random=400, turns=400, timers=400)
        self.compare(recording, steps, [("--engine", name) for name in ("max-insns=1", "no-quick", "no-extend")])

    def test_busy_linux_on_one_vcpu(self):
        # Short turns and stalls make it slow.
        self.compare_all(self.busy_linux(1, "--chaos", "5", length=5_000_000), chaos=1)

    def test_busy_linux_on_two_vcpus(self):
        self.compare_all(self.busy_linux(2, "--quantum", "5000"), chaos=2)

    def test_busy_linux_on_four_vcpus(self):
        window = self.busy_linux(4, "--quantum", "20000")
        self.compare_some(self.recording)
        self.compare_all(window, chaos=4)


if __name__ == "__main__":
    unittest.main()
