"""The flight recorder: recordings that keep their last stretch only."""
import contextlib
import json
import subprocess
import threading
import time
import unittest

from guest_session import DEJA, TIMEOUT, ReplayTest, deja

WORK = ("while :; do dd if=/dev/urandom of=/tmp/noise bs=64k count=60 2>/dev/null; echo round $((i=i+1)); sleep 0.1; done\n")


class Keep(ReplayTest):
    def record_work(self, *options):
        recorder, at = self.record_until_prompt(options=("--keep", "2s", "--checkpoint-every", "20M", *options))
        recorder.type(WORK)
        return recorder, recorder.expect(b"round 1", at)

    def files(self, stem):
        return sorted(path.name for path in self.recording.glob(f"{stem}*"))

    def size_of(self, pattern):
        """In bytes; files may go meanwhile."""
        size = 0
        for path in self.recording.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                size += path.stat().st_size
        return size

    def manifest(self):
        return json.loads((self.recording / "manifest.json").read_text())

    def wait_for(self, recorder, condition):
        """While the recorder's output is read."""
        reached = threading.Event()

        def watch():
            while not condition() and recorder.process.poll() is None:
                time.sleep(0.002)
            reached.set()
        threading.Thread(target=watch, daemon=True).start()
        at = len(recorder.output)
        while not reached.is_set():
            at = recorder.expect(b"round", at)

    def test_a_long_recording_stays_small_and_its_window_is_a_recording(self):
        recorder, _ = self.record_work()
        sizes = {}  # of the checkpoints, the most that was seen while the window had this number

        def three_windows_were_seen():
            if number := self.manifest().get("window", {}).get("number", 0):
                sizes[number] = max(sizes.get(number, 0), self.size_of("*.dat"))
            return len(sizes) >= 3
        self.wait_for(recorder, three_windows_were_seen)
        recorder.type("\x03")
        recorder.type("\npoweroff -f\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        self.assertRegex(messages, r"it holds the last \d")
        manifest = self.manifest()
        number, first, last = manifest["window"]["number"], manifest["base"]["step"], manifest["end"]["final_step"]
        self.assertEqual((self.files("events"), self.files("checkpoints")),
                         ([f"events-{number}.log"], [f"checkpoints-{number}.dat"]))
        # Two stretches, one of which is being copied: it grows no more.
        *before, newest = sorted(sizes)
        self.assertLess(sizes[newest], 2 * max(sizes[number] for number in before))
        info = json.loads(deja("info", "--json", self.recording).stdout)
        self.assertEqual((info["first_step"], info["steps"], info["keep_ns"]), (first, last, 2_000_000_000))
        self.assertGreater(first, 0)
        text = deja("info", self.recording).stdout
        self.assertRegex(text, r"keeps +the last 2.0 s")
        self.assertRegex(text, rf"begins at +step {first:,}")
        self.assert_identical()
        self.assert_identical("--chaos-engine", 3)
        digests = {at: deja("replay", "--to", at, "--digest", self.recording) for at in ("end", "start", "50%")}
        for at, done in digests.items():
            self.assertRegex(done.stdout, r"^step \d+ digest", f"{at}: {done.stderr}")
        self.assertIn(f"step {first} ", digests["start"].stdout)
        self.assertIn(f"step {last} ", digests["end"].stdout)
        for at in ("start", "end"):
            done = deja("export", self.recording, "memory", "--at", at, self.folder / at)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotEqual((self.folder / "start").read_bytes(), (self.folder / "end").read_bytes())
        self.assert_clean_error(deja("replay", "--to", first - 1, "--digest", self.recording), "before the beginning")
        # It packs and goes on like any other.
        packed = self.folder / "packed.dejavm"
        self.assertEqual(deja("pack", "-o", packed, self.recording).returncode, 0)
        self.assertEqual(deja("unpack", "-o", self.folder / "again", packed).returncode, 0)
        self.recording = self.folder / "again.deja"
        self.assert_identical()
        live = subprocess.run([DEJA, "live", self.recording, "--at", "50%", "-o", self.folder / "branch"],
                              input=b"\x03\npoweroff -f\n", capture_output=True, timeout=TIMEOUT)
        self.assertEqual(live.returncode, 0, live.stderr)
        self.recording = self.folder / "branch.deja"
        self.assert_identical()
        self.assertEqual((self.files("events"), self.files("checkpoints")), (["events.log"], ["checkpoints.dat"]))

    def test_a_recorder_that_is_killed_while_its_beginning_moves_leaves_a_recording(self):
        for moves, when in ((1, lambda: len(self.files("checkpoints")) > 1),
                            (2, lambda: self.manifest().get("window", {}).get("number", 0) >= 1)):
            recorder, _ = self.record_work()
            self.wait_for(recorder, when)
            recorder.kill()
            self.assert_identical()
            done = deja("replay", "--to", "start", "--digest", self.recording)
            self.assertRegex(done.stdout, r"^step \d+ digest", done.stderr)
            self.assertEqual(deja("rm", self.recording).returncode, 0)
            self.assertFalse(self.recording.exists(), moves)

    def test_what_cannot_be_kept_is_named(self):
        for wrong, word in (("10", "no such file"), ("0.5s", "a second to a year"), ("10 minutes", "not a length"),
                            ("m", "not a length"), ("-3s", "a second to a year")):
            done = deja("record", "--keep", wrong, "-o", self.recording, "--kernel", self.folder / "no")
            self.assert_clean_error(done, word)
        self.assert_clean_error(deja("record", "--keep", "1m", "--checkpoint-every", "off", "-o", self.recording, "--kernel",
                                     self.folder / "no"), "--keep needs checkpoints")


if __name__ == "__main__":
    unittest.main()
