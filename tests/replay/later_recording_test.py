"""Recordings that begin in mid-run: asked for by the guest, or in the monitor."""
import hashlib
import json
import os
import subprocess
import time
import unittest

from devices_test import devices_guest
from guest_session import DEJA, PROMPT, TIMEOUT, Recorder, ReplayTest, deja


class LaterRecording(ReplayTest):
    def run_until_prompt(self, *options, **guest):
        self.home = self.folder / "home"
        runner = Recorder(command=["run", "--recordings", self.home], options=options, **guest)
        self.addCleanup(runner.process.kill)
        return runner, runner.expect(PROMPT)

    def command(self, runner, at, line):
        runner.type(line + "\n")
        return runner.expect(PROMPT, at)

    def monitor(self, runner, at, line, answer):
        runner.type(f"\x01c{line}\n\x01c")
        return runner.expect(answer, at)

    def info(self):
        return json.loads(deja("info", "--json", self.recording).stdout)

    def assert_nothing_hidden(self):
        deadline = time.monotonic() + 10
        while (hidden := list(self.home.glob(".*"))) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(hidden, [])

    def test_a_guest_records_two_stretches_of_its_run(self):
        disk = self.folder / "disk.raw"
        disk.write_bytes(b"image" + bytes((1 << 20) - 5))
        runner, at = self.run_until_prompt("--guest-control", "record", "--drive", f"file={disk}", "--smp", "2",
                                           **devices_guest())
        at = self.command(runner, at, "drivers; printf before | dd of=/dev/vda bs=1 seek=8192 conv=notrunc; sync")
        at = self.command(runner, at, "echo unheard; deja-mark unheard; deja-mark --start first; deja-mark one")
        at = self.command(runner, at, "printf during | dd of=/dev/vda bs=1 seek=16384 conv=notrunc; sync; tour")
        at = self.command(runner, at, "deja-mark two; deja-mark --start first; deja-mark --stop; echo betw''ixt")
        at = self.command(runner, at, "relay 2''0; deja-mark --start first; deja-mark three; relay 30")
        runner.type("poweroff -f\n")
        status, messages = runner.finish()
        self.assertEqual(status, 0, messages)
        self.assertRegex(messages, r"first\.deja: log of(.|\n)*first-2\.deja: log of")
        self.assertIn("is gone when this run ends", messages)
        self.assertIn(f"deja export {self.home}/first-2.deja disk", messages, "which has the end of the run")
        self.assert_nothing_hidden()
        self.assertEqual(sorted(path.name for path in self.home.iterdir()), ["first-2.deja", "first.deja"])
        steps = []
        for name, marks, said, unsaid in (("first", ['"one"', '"two"'], "processes alive", "betwixt"),
                                          ("first-2", ['"three"'], "30 rounds", "20 rounds")):
            self.recording = self.home / f"{name}.deja"
            self.assert_identical()
            self.assert_identical("--chaos-engine", 5)
            listed = deja("dump", "--kind", "mark", self.recording).stdout.splitlines()
            self.assertEqual([line.split("mark ", 1)[1] for line in listed], marks)
            replayed = deja("replay", self.recording).stdout
            self.assertIn(said, replayed)
            self.assertNotIn(unsaid, replayed)
            info = self.info()
            steps += [info["first_step"], info["steps"]]
        self.assertEqual(steps, sorted(steps))
        self.assertGreater(steps[0], 100_000_000)
        # It has all that was before, and every command takes it.
        self.recording = self.home / "first.deja"
        for at, during in (("start", bytes(6)), ("mark:two", b"during")):
            out = self.folder / f"{at}.raw"
            done = deja("export", self.recording, "disk", "--at", at, out)
            self.assertEqual(done.returncode, 0, done.stderr)
            content = out.read_bytes()
            self.assertEqual((content[:5], content[8192:8198], content[16384:16390]), (b"image", b"before", during))
        self.assertEqual(deja("trim", self.recording, "--from", "mark:two", "-o", self.folder / "end").returncode, 0)
        self.assertEqual(deja("pack", "-o", self.folder / "packed.dejavm", self.recording).returncode, 0)
        branch = self.folder / "branch.deja"
        live = subprocess.run([DEJA, "live", self.recording, "--at", "mark:two", "-o", branch], capture_output=True,
                              input=b"poweroff -f\n", timeout=TIMEOUT)
        self.assertEqual(live.returncode, 0, live.stderr)
        for self.recording in (self.folder / "end.deja", branch):
            self.assert_identical()

    def test_an_image_whose_hash_is_remembered_is_known_by_it(self):
        disk = self.folder / "disk.raw"
        disk.write_bytes(os.urandom(1 << 20))
        for name in ("first", "second"):  # the second finds the hash in the cache, to which the sandbox leaves no way
            runner, at = self.run_until_prompt("--guest-control", "record", "--drive", f"file={disk}", **devices_guest())
            runner.type(f"deja-mark --start {name}; poweroff -f\n")
            status, messages = runner.finish()
            self.assertEqual(status, 0, messages)
            inputs = json.loads((self.home / f"{name}.deja" / "manifest.json").read_text())["inputs"]
            hashes = [i["sha256"] for i in inputs if i["role"] == "drive0"]
            self.assertEqual(hashes, [hashlib.sha256(disk.read_bytes()).hexdigest()], name)

    def test_the_monitor_begins_and_ends_recordings(self):
        runner, at = self.run_until_prompt("--sandbox", "strict")
        at = self.monitor(runner, at, "record stop", b"no recording is being made")
        at = self.monitor(runner, at, "record start ../out", b"is not a name for a recording")
        at = self.monitor(runner, at, "record start noon", f"recording into {self.home}/noon.deja".encode())
        at = self.monitor(runner, at, "record start again", b"is being made already")
        at = self.monitor(runner, at, "status", b"recording: ")
        self.recording = self.home / "noon.deja"
        self.assertRegex(deja("info", self.recording).stdout, r"(?i)recording")
        self.assert_clean_error(deja("rm", self.recording), "is being recorded")
        at = self.command(runner, at, "relay 10")
        at = self.monitor(runner, at, "record stop", f"recorded in {self.home}/noon.deja, log of".encode())
        at = self.command(runner, at, "echo unheard")
        self.assert_identical()
        self.assertIn("10 rounds", deja("replay", self.recording).stdout)
        self.assertRegex(deja("info", self.recording).stdout, r"ended by +quit: the monitor ended the recording")
        # What is killed while it records leaves a recording up to there.
        at = self.monitor(runner, at, "record start", b".deja, log of")
        at = self.command(runner, at, "relay 11")
        runner.kill()
        self.assert_nothing_hidden()
        self.recording, = (path for path in self.home.iterdir() if path.name != "noon.deja")
        self.assert_identical()

    def test_a_guest_may_not_begin_one_by_default(self):
        runner, at = self.run_until_prompt()
        runner.type("for i in 1 2 3; do deja-mark --start; done; deja-mark --exit\n")
        status, messages = runner.finish()
        self.assertEqual(status, 0, messages)
        self.assertEqual(messages.count("--guest-control record"), 1, messages)
        self.assert_nothing_hidden()
        self.assertEqual(list(self.home.iterdir()), [])

    def test_a_recording_that_was_ended_is_followed_by_another(self):
        recorder, at = self.record_until_prompt(options=["--guest-control", "record", "--keep", "1s"])
        at = self.command(recorder, at, "deja-mark --stop; deja-mark --start next; relay 100")
        time.sleep(5)  # of the host's time, which is what counts
        recorder.type("relay 5; poweroff -f\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        self.assertRegex(messages, r"next\.deja: log of[^\n]*\n[^\n]*it holds the last \d")
        self.assert_identical()
        self.recording = self.folder / "next.deja"
        self.assert_identical()
        self.assertEqual(self.info()["keep_ns"], 1_000_000_000)


if __name__ == "__main__":
    unittest.main()
