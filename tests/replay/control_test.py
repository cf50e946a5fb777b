"""Programs in the guest that talk to DejaVM, and sessions that end by themselves."""
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from guest_session import GUESTS, INITRD, PROMPT, Recorder, ReplayTest, deja

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from image import Image  # noqa: E402


class Control(ReplayTest):
    def command(self, recorder, at, line):
        recorder.type(line + "\n")
        return recorder.expect(PROMPT, at)

    def marks(self):
        return [line.split("mark ", 1)[1] for line in deja("dump", "--kind", "mark", self.recording).stdout.splitlines()]

    def test_a_shell_marks_a_moment(self):
        recorder, at = self.record_until_prompt()
        at = self.command(recorder, at, "deja-mark test 17 starts; deja-mark twice; deja-mark twice")
        recorder.type("deja-mark --exit 3\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 3, messages)
        self.assertEqual(self.marks(), ['"test 17 starts"', '"twice"', '"twice"'])
        self.assert_identical()
        self.assert_identical("--chaos-engine", 4)
        core = self.folder / "core"
        done = deja("export", self.recording, "memory", "--at", "mark:test 17 starts", core)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_clean_error(deja("export", self.recording, "memory", "--at", "mark:twice", core), "mark:twice#2")

    def test_the_c_program_in_the_documentation_marks_a_moment(self):
        program = self.folder / "deja-mark"
        subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-static", "-o", program, ROOT / "docs" / "deja-mark.c"], check=True)
        more = Image([])
        more.write("usr/bin/c-mark", program.read_bytes(), 0o755)
        initrd = self.folder / "initrd"
        initrd.write_bytes(Path(INITRD).read_bytes() + more.initramfs())
        recorder, at = self.record_until_prompt(initrd=str(initrd))
        self.command(recorder, at, "c-mark 'from C'")
        recorder.type("poweroff -f\n")
        self.assertEqual(recorder.finish()[0], 0)
        self.assertEqual(self.marks(), ['"from C"'])
        self.assert_identical()
        done = subprocess.run([program, "x"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, "deja-mark: this machine does not run in DejaVM\n"))

    def test_a_guest_ends_its_recording_and_runs_on(self):
        recorder, at = self.record_until_prompt()
        at = self.command(recorder, at, "deja-mark before; deja-mark --stop; deja-mark after")
        self.assert_identical()
        at = self.command(recorder, at, "echo still here")
        recorder.type("poweroff -f\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        self.assertIn("ended the recording", messages)
        self.assertEqual(self.marks(), ['"before"'])
        self.assertNotIn("still here", deja("replay", self.recording).stdout)

    def test_a_guest_may_be_limited_to_marks_or_see_nothing(self):
        recorder, at = self.record_until_prompt(options=["--guest-control", "marks"])
        at = self.command(recorder, at, "deja-mark --exit 3; deja-mark --stop; deja-mark allowed")
        recorder.type("poweroff -f\n")
        self.assertEqual(recorder.finish()[0], 0)
        self.assertEqual(self.marks(), ['"allowed"'])
        self.assert_identical()

    def test_a_session_ends_a_moment_after_a_text(self):
        recorder, at = self.record_until_prompt(options=["--until", "serial:never said", "--until", 'serial:"one two"'])
        recorder.type("echo one tw''o; echo the last words; sleep 1; echo too late\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        self.assertIn("--until", messages)
        self.assertIn(b"the last words", recorder.output)
        self.assertNotIn(b"\ntoo late", recorder.output)
        self.assert_identical()

    def test_a_session_ends_at_a_mark(self):
        recorder, _ = self.record_until_prompt(options=["--until", "mark:here"])
        recorder.type("deja-mark there; deja-mark here; echo too la''te\n")
        self.assertEqual(recorder.finish()[0], 0)
        self.assertNotIn(b"too late", recorder.output)
        self.assert_identical()

    def test_a_session_ends_when_the_kernel_panics(self):
        recorder, _ = self.record_until_prompt(options=["--until-exit"])
        recorder.type("echo c >/proc/sysrq-trigger\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        self.assertIn("ended by quit: --until-exit, the kernel panicked", messages)
        self.assertIn(b"Kernel panic - not syncing", recorder.output)
        self.assertIn(b"end Kernel panic", recorder.output, "with all that the kernel says after it")
        self.assert_identical()

    def lead(self, *lines):
        """What the guest `listener` prints when it is told so, and what the recorder says."""
        recorder = Recorder(self.recording, kernel=GUESTS / "listener", initrd=None, append=None, memory="64M",
                            options=("--checkpoint-every", "1M"))
        at = recorder.expect(b"ready")
        for line in lines:
            recorder.type(line + "\n")
            at = recorder.expect(b"done", at)
        recorder.type("end\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 1, messages)
        return recorder.output.decode(), messages

    def test_a_flood_of_marks_is_bounded_and_the_same_in_every_replay(self):
        output, messages = self.lead("work", "flood", "work", "flood", "mark the end")
        taken = [int(n) for n in re.findall(r"taken (\d+)", output)]
        # 256 KiB at 37 bytes each, and what 3.8 kB a second give back.
        self.assertTrue(7000 < taken[0] < 7400 and taken[1] < 2000, taken)
        self.assertEqual(messages.count("some are refused"), 1, messages)
        self.assertEqual(self.marks().count('"flood"'), sum(taken))
        self.assertLess((self.recording / "events.log").stat().st_size, 256 * 1024)
        self.assert_identical()
        self.assert_identical("--chaos-engine", 5)
        # From checkpoints in between.
        digests = [deja("replay", "--to", at, "--digest", self.recording).stdout for at in ("70%", "end")]
        shutil.copytree(self.recording, self.folder / "bare.deja", ignore=shutil.ignore_patterns("checkpoints*"))
        self.assertEqual(digests, [deja("replay", "--to", at, "--digest", self.folder / "bare.deja").stdout
                                   for at in ("70%", "end")])

    def test_a_guest_that_talks_too_much_is_still_searched(self):
        self.lead("work", "talk", "work", "talk", "work")
        self.assertLess((self.recording / "checkpoints.dat").stat().st_size, 16 << 20)
        places = [re.search(r"step (\d+)", deja("replay", "--digest", "--to", f'serial:"to say."#{n}', self.recording).stdout)
                  for n in (1, 2048, 2049, 4096)]
        steps = [int(place.group(1)) for place in places]
        self.assertEqual(steps, sorted(set(steps)))
        self.assert_clean_error(deja("replay", "--digest", "--to", 'serial:"to say."#4097', self.recording), "4096 times")

    def test_a_condition_that_is_none_is_refused(self):
        self.assert_clean_error(deja("run", "--kernel", "x", "--until", "login"), "--until login", "serial:")


if __name__ == "__main__":
    unittest.main()
