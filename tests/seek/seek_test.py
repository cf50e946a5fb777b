"""Going back and forth in recordings of Debian's kernel: checkpoints, digests at any moment, damage."""
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "replay"))
from guest_session import DEJA, TIMEOUT, ReplayTest, deja  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
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

    def test_positions_in_every_form(self):
        self.record_some_work()

        def step(to):
            return int(self.digest(to).stdout.split()[1])

        end = step("end")
        self.assertEqual(step("start"), 0)
        self.assertEqual(step(f"{end:,}"), end)
        self.assertEqual(step("100%"), end)
        # What was typed has quotes in the word; so it occurs once.
        done = step('serial:"finished"')
        self.assertLess(done, end)
        self.assertEqual(step('serial:finished#1'), done)
        self.assertLess(step("-1s"), step("-500ms"))
        self.assertLess(step("+1s"), step("+1.5s"))
        dump = [line for line in deja("dump", self.recording).stdout.splitlines() if line.strip()]
        self.assertEqual(step("event:3"), int(dump[2].split()[0]))
        date = re.search(r"(\d+-\d+-\d+ \d+:\d+:\d+)", deja("info", self.recording).stdout)[1]
        self.assertLess(step(f"{date}.999"), end)
        for wrong, word in (("panic", "does not occur"), ("mark:none", "does not occur"), ("+1min", "behind the end"),
                            ("-1min", "before the start"), (str(end + 1), "behind the end"), ("nonsense", "not a position"),
                            ('serial:"e"', "say which"), ("event:99999", "has .* events"), ("2001-01-01 10:00:00", "outside")):
            self.assert_clean_error(deja("replay", "--to", wrong, "--digest", self.recording), word)

    def test_a_text_is_found_without_replaying_from_the_start(self):
        self.record_some_work("--checkpoint-every", "50M")
        where = self.digest('serial:"finished"').stdout
        steps = int(where.split()[1])
        # Checkpoints hold what was sent: the same place without any, and again with others.
        file = self.recording / "checkpoints.dat"
        kept = file.read_bytes()
        file.unlink()
        self.assertEqual(self.digest('serial:"finished"').stdout, where)
        self.assertEqual(deja("index", "--checkpoint-every", "30M", self.recording).returncode, 0)
        self.assertEqual(self.digest('serial:"finished"').stdout, where)
        damaged = bytearray(kept)
        damaged[len(kept) // 2] ^= 1
        file.write_bytes(damaged)
        self.assertEqual(self.digest('serial:"finished"').stdout, where)
        self.assertGreater(steps, 0)

    def test_a_window_is_a_recording_of_its_own(self):
        self.record_some_work("--checkpoint-every", "100M")
        whole = {to: self.digest(to).stdout for to in ("45%", "60%", "73%", "end")}
        begin, end = (int(whole[to].split()[1]) for to in ("45%", "73%"))
        window = self.folder / "window.deja"

        def trim(of, first, last, to):
            done = deja("trim", of, "--from", first, "--to", last, "-o", to.with_suffix(""),
                        "--checkpoint-every", "40M")
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        self.assertRegex(trim(self.recording, "45%", "73%", window), r"steps [\d,]+ to [\d,]+, \d+ events, \d+ checkpoints of ")
        whole_recording, self.recording = self.recording, window
        info = json.loads(deja("info", "--json", window).stdout)
        self.assertEqual((info["first_step"], info["steps"], info["complete"]), (begin, end, True))
        self.assert_identical()
        self.assert_identical("--chaos-engine", 5)
        # Its steps are the old ones, and so are the states.
        self.assertEqual(self.digest("start").stdout, whole["45%"])
        self.assertEqual(self.digest("end").stdout, whole["73%"])
        middle = whole["60%"].split()[1]
        self.assertEqual(self.digest(middle).stdout, whole["60%"])
        self.assert_clean_error(deja("replay", "--to", begin - 1, "--digest", window), "before the beginning")
        self.assert_clean_error(deja("replay", "--to", end + 1, "--digest", window), "behind the end")
        self.assertIn(" checkpoints, ", self.seek_at_random(20))
        # Checkpoints made anew keep the one that it begins with.
        self.assertEqual(deja("index", "--checkpoint-every", "70M", window).returncode, 0)
        self.assertEqual(self.digest("start").stdout, whole["45%"])
        self.assert_identical()
        # A window of the window, packed; a branch from within it.
        inner = self.folder / "inner.deja"
        trim(window, middle, "end", inner)
        packed = self.folder / "inner.dejavm"
        self.assertEqual(deja("pack", "-o", packed, inner).returncode, 0)
        self.recording = self.folder / "unpacked.deja"
        self.assertEqual(deja("unpack", "-o", self.recording, packed).returncode, 0)
        self.assert_identical()
        self.assertEqual(self.digest("start").stdout, whole["60%"])
        self.assertEqual(self.digest("end").stdout, whole["73%"])
        file = self.recording / "checkpoints.dat"
        file.unlink()
        self.assert_clean_error(deja("verify", self.recording), "checkpoint that it begins with is missing")
        self.recording = whole_recording
        self.assertEqual(self.digest("end").stdout, whole["end"])

    def test_a_branch_of_a_window_goes_on_with_its_checkpoints(self):
        self.record_some_work("--checkpoint-every", "100M")
        window = self.folder / "window.deja"
        done = deja("trim", self.recording, "--from", 'serial:"some work"#1', "-o", window.with_suffix(""))
        self.assertEqual(done.returncode, 0, done.stderr)
        branch = self.folder / "branch.deja"
        live = subprocess.run([DEJA, "live", window, "--at", 'serial:"finished"', "-o", branch.with_suffix("")],
                              input="i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; poweroff -f\n",
                              capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
        self.assertEqual(live.returncode, 0, live.stderr)
        self.assertRegex(live.stderr, r"\d+ checkpoints of ")
        self.recording = branch
        self.assert_identical()
        self.assertIn(" checkpoints, ", self.seek_at_random(20))
        self.assertEqual(deja("replay", "--to", "start", "--digest", branch).stdout,
                         deja("replay", "--to", "start", "--digest", window).stdout)

    def test_disks_are_in_checkpoints(self):
        guest = dict(line.split("=", 1) for line in subprocess.run(
            [ROOT / "dev", "guest", "--devices"], check=True, capture_output=True, text=True).stdout.splitlines())
        disk = self.folder / "disk.raw"
        disk.write_bytes(random.Random(SEED).randbytes(8 << 20))
        recorder, at = self.record_until_prompt(
            options=("--checkpoint-every", "50M", "--drive", f"file={disk},format=raw"),
            kernel=guest["kernel"], initrd=guest["initrd"])
        recorder.type("drivers; for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/dev/vda bs=64k count=20 seek=$((i*16)) "
                      "conv=notrunc 2>/dev/null; sync; md5sum /dev/vda; done; echo writ''ten\n")
        recorder.expect(b"written", at)
        recorder.type("poweroff -f\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        self.assertRegex(messages, r"\d+ checkpoints of ")
        self.assertIn(" checkpoints, ", self.seek_at_random(200 if FULL else 40))
        self.seek_at_random(20, chaos=2)
        # The end of the recording alone, with what was on the disk then.
        window = self.folder / "window.deja"
        done = deja("trim", self.recording, "--from", "90%", "-o", window.with_suffix(""))
        self.assertEqual(done.returncode, 0, done.stderr)
        for recording in (self.recording, window):
            done = deja("export", recording, "disk", self.folder / f"{recording.stem}.raw")
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.folder / "run.raw").read_bytes(), (self.folder / "window.raw").read_bytes())
        self.recording = window
        self.assert_identical()

    def test_export_gives_tools_a_kernel_they_know(self):
        self.record_some_work()
        core = self.folder / "out.core"
        done = deja("export", self.recording, "vmcore", "--at", "90%", core)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"Linux 6\.1\.")
        notes = subprocess.run(["readelf", "-n", core], capture_output=True, text=True).stdout
        self.assertIn("NT_PRSTATUS", notes)
        self.assertIn("VMCOREINFO", notes)
        # Under the addresses that the kernel's symbols have, as drgn reads it.
        data = core.read_bytes()
        at, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
        segments = [struct.unpack_from("<II6Q", data, at + 56 * i) for i in range(count)]
        info = data[data.index(b"OSRELEASE="):][:4096].decode("ascii", errors="replace")
        names = int(re.search(r"SYMBOL\(init_uts_ns\)=(\w+)", info)[1], 16)
        (offset,) = [s[2] + names - s[3] for s in segments if s[0] == 1 and s[3] <= names < s[3] + s[5]]
        self.assertIn(re.search(r"OSRELEASE=(.*)", info)[1].encode(), data[offset:offset + 512])
        again = deja("export", self.recording, "vmcore", core)
        self.assert_clean_error(again, "out.core", "cannot create")

    def test_a_packed_recording_is_as_good_as_the_recording(self):
        self.record_some_work("--checkpoint-every", "100M")
        want = self.digest("60%").stdout
        packed = self.folder / "run.dejavm"
        environment = {**os.environ, "XDG_DATA_HOME": str(self.folder)}
        done = deja("pack", "-o", packed, self.recording)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("secrets", done.stderr)
        for _ in range(2):  # the second time it is unpacked already
            done = deja("replay", "--to", "60%", "--digest", packed, env=environment)
            self.assertEqual(done.stdout, want, done.stderr)
        other = self.folder / "other.deja"
        done = deja("unpack", "-o", other, packed)
        self.assertEqual(done.returncode, 0, done.stderr)
        for file in self.recording.rglob("*"):
            if file.is_file():
                self.assertEqual((other / file.relative_to(self.recording)).read_bytes(), file.read_bytes(), file)
        whole = packed.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 3):
            damaged = bytearray(whole)
            damaged[at] ^= 4
            bad = self.folder / f"bad{at}.dejavm"
            bad.write_bytes(damaged)
            self.assert_clean_error(deja("unpack", "-o", self.folder / f"bad{at}", bad), bad.name)
            self.assertFalse((self.folder / f"bad{at}.deja").exists())
        cut = self.folder / "cut.dejavm"
        cut.write_bytes(whole[:-100])
        self.assert_clean_error(deja("unpack", "-o", self.folder / "cut", cut), "cut off")

    def test_live_goes_on_from_the_past_as_a_recording_of_its_own(self):
        self.record_some_work()
        branch = self.folder / "branch.deja"
        step = self.digest('serial:"finished"').stdout.split()[1]
        earlier = str(int(step) - 1)  # at the step itself what is typed below may have arrived
        before = self.digest(earlier).stdout
        done = subprocess.run([DEJA, "live", "--at", step, "-o", str(branch.with_suffix("")), str(self.recording)],
                              input="sleep 1; echo bran''ched; poweroff -f\n", capture_output=True, text=True,
                              errors="replace", timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("branched", done.stdout)
        manifest = json.loads((branch / "manifest.json").read_text())
        self.assertEqual(manifest["parent"]["name"], "run")
        self.assertEqual(str(manifest["parent"]["step"]), step)
        self.assert_identical()
        parent, self.recording = self.recording, branch
        shutil.rmtree(parent)
        self.assert_identical()
        self.assertEqual(self.digest(earlier).stdout, before)
        self.assertIn("branched", deja("replay", branch).stdout)
        again = deja("live", "-o", self.folder / "more", branch)
        self.assert_clean_error(again, "has ended")


if __name__ == "__main__":
    unittest.main()
