"""What can happen to a recorder and to a recording: each a clear message, and what was recorded stays usable."""
import json
import os
import pty
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from guest_session import DEJA, GUESTS, INITRD, KERNEL, PROMPT, TIMEOUT, Recorder, ReplayTest, deja


def wait_until(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def lead(recording):
    """A recorder of the guest `listener`, ready to be told what to do."""
    recorder = Recorder(recording, kernel=GUESTS / "listener", initrd=None, append=None,
                        memory="64M",
                        options=("--checkpoint-every", "5M"))
    recorder.expect(b"ready")
    return recorder


class Killed(ReplayTest):
    def steps(self):
        return json.loads(deja("info", "--json", self.recording).stdout)["steps"]

    def test_recorder_killed_with_sigkill_leaves_a_recording_up_to_the_last_second(self):
        recorder, _ = self.record_until_prompt()
        recorder.type("while :; do relay 10; done\n")
        begun = self.steps()
        wait_until(lambda: self.steps() > begun)  # on the disk, and the guest goes on
        recorder.process.kill()
        recorder.finish()
        info = json.loads(deja("info", "--json", self.recording).stdout)
        self.assertFalse(info["complete"])
        self.assertGreater(info["steps"], 0)
        self.assert_identical()

    def test_signals_end_a_recording_cleanly(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number.name):
                shutil.rmtree(self.recording, ignore_errors=True)
                recorder, _ = self.record_until_prompt()
                recorder.process.send_signal(number)
                recorder.finish()
                self.assertTrue(json.loads(deja("info", "--json", self.recording).stdout)["complete"])
                self.assert_identical()

    def test_recording_still_being_written_can_be_looked_at(self):
        self.record_until_prompt()
        done = deja("info", "--json", self.recording)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(json.loads(done.stdout)["complete"])
        self.assert_clean_error(deja("rm", self.recording), "being recorded")

    def test_full_disk_ends_with_a_message_and_keeps_what_was_written(self):
        recorder, _ = self.record_until_prompt()
        # From now on the log can grow by no more than this.
        resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE,
                         (os.path.getsize(self.recording / "events.log") + 50,) * 2)
        recorder.type("echo " + "x" * 2000 + "\n")
        status, messages = recorder.finish()
        self.assertNotEqual(status, 0, messages)
        self.assertRegex(messages, r"(?i)events\.log|space|large")
        self.assert_identical()


    def test_full_disk_pauses_a_session_at_a_terminal_until_there_is_room(self):
        main, side = pty.openpty()
        recorder = subprocess.Popen([DEJA, "record", "-o", self.recording, "-m", "256M", "--kernel", KERNEL, "--initrd", INITRD,
                                     "--append", "console=ttyS0", "--checkpoint-every", "off"],
                                    stdin=side, stdout=side, stderr=side, start_new_session=True)
        self.addCleanup(recorder.kill)
        output = b""

        def expect(text):
            nonlocal output
            while text not in output:
                self.assertTrue(select.select([main], [], [], TIMEOUT)[0], output)
                output += os.read(main, 65536)
            output = output[output.index(text) + len(text):]

        expect(PROMPT)
        _, hard = resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE)
        size = os.path.getsize(self.recording / "events.log") + 50
        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (size, hard))
        os.write(main, b"echo in$((1))\n")
        expect(b"the machine is paused until that works")
        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (hard, hard))
        expect(b"the machine goes on")
        os.write(main, b"poweroff -f\n")
        expect(b"recorded in")
        self.assertEqual(recorder.wait(TIMEOUT), 0)
        os.close(main), os.close(side)
        self.assert_identical()


class Damaged(ReplayTest):
    def record_small(self):
        done = deja("record", "-o", self.recording.with_suffix(""), "-m", "128M", "--kernel", GUESTS / "exceptions",
                    "--serial", "none")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)  # the guest leaves with value 0
        self.assert_identical()

    def test_flipped_bytes_and_truncations_are_told_and_never_crash(self):
        self.record_small()
        for name in ("events.log", "manifest.json"):
            whole = (self.recording / name).read_bytes()
            for at in range(0, len(whole), max(1, len(whole) // 12)):
                with self.subTest(file=name, byte=at):
                    damaged = bytearray(whole)
                    damaged[at] ^= 0x10
                    (self.recording / name).write_bytes(damaged)
                    done = deja("verify", self.recording)
                    self.assertNotIn("internal error", done.stderr)
                    self.assertIn(done.returncode, range(0, 3))
                    if name == "events.log" and at < len(whole) - 64:
                        self.assert_clean_error(done, "events.log|frame|log")
                    (self.recording / name).write_bytes(whole[:at])
                    done = deja("verify", self.recording)
                    self.assertNotIn("internal error", done.stderr)
                    self.assertIn(done.returncode, range(0, 3))
            (self.recording / name).write_bytes(whole)
        self.assert_identical()

    def test_damaged_input_file_is_named(self):
        self.record_small()
        kernel = next((self.recording / "inputs").iterdir())
        kernel.chmod(0o600)
        data = bytearray(kernel.read_bytes())
        data[len(data) // 2] ^= 1
        kernel.write_bytes(data)
        self.assert_clean_error(deja("replay", self.recording), "sha-?256|kernel")

    def test_newer_format_is_refused(self):
        self.record_small()
        path = self.recording / "manifest.json"
        manifest = json.loads(path.read_text())
        key = next(k for k in manifest if "format" in k)
        manifest[key] = 999 if not isinstance(manifest[key], dict) else {"version": 999}
        path.write_text(json.dumps(manifest))
        self.assert_clean_error(deja("replay", self.recording), "999|newer")


def frames_of(log):
    """Where the frames of an event log begin, and where it ends (docs/recording-format.md)."""
    at, starts = 24, []
    while at < len(log):
        starts.append(at)
        at += 14 + (int.from_bytes(log[at + 1:at + 4], "little") & 0x7fffff)
    return starts + [at]


class EveryVerb(ReplayTest):
    """Each verb on recordings damaged in each way: whatever was asked for is of the whole recording, or is refused, or is
    of the intact part and says so with status 3."""
    OK, ERROR, INTACT_PART = 0, 1, 3

    @classmethod
    def setUpClass(cls):
        cls.home = Path(tempfile.mkdtemp(prefix="deja-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.home, ignore_errors=True)
        cls.sound = cls.home / "sound.deja"
        recorder, log = lead(cls.sound), cls.sound / "events.log"
        for i in range(8):
            size = log.stat().st_size
            at = len(recorder.output)
            recorder.type(f"mark at {i}\nwork\n")
            recorder.expect(b"done", recorder.expect(b"done", at))
            wait_until(lambda: log.stat().st_size > size)
        recorder.type("end\n")
        status, messages = recorder.finish()
        assert status == 1, messages
        window = deja("trim", cls.sound, "--from", "mark:at 2", "-o", cls.home / "window", "--checkpoint-every", "5M")
        assert window.returncode == 0, window.stderr
        cls.window = cls.home / "window.deja"

    def copy(self, recording):
        shutil.rmtree(self.recording, ignore_errors=True)
        shutil.copytree(recording, self.recording)

    def digest(self, recording, at):
        return deja("replay", "--to", at, "--digest", recording)

    def check(self, done, status, *words):
        said = done.stdout + done.stderr
        self.assertEqual(done.returncode, status, f"{done.args}\n{said}")
        self.assertNotIn("internal error", said)
        for word in words:
            self.assertRegex(said, word, done.args)

    def check_verbs(self, sound):
        """Of self.recording, whose log is damaged. `sound`: what it was before."""
        rec, damage = self.recording, r"events\.log: (byte \d+|ends after byte \d+)"
        done = deja("info", "--json", rec)
        self.check(done, self.INTACT_PART)
        info = json.loads(done.stdout)
        self.assertFalse(info["complete"])
        self.assertRegex(info["damage"], damage)
        first, intact, last = info["first_step"], info["intact_to_step"], info["steps"]
        self.check(deja("info", rec), self.INTACT_PART, damage)
        self.check(deja("dump", rec), self.INTACT_PART, damage)
        # What is of the whole recording.
        for verb in (("verify",), ("replay", "--quiet"), ("stats",), ("index",), ("bisect",)):
            self.check(deja(*verb, rec), self.ERROR, damage, r"deja trim --to \d+")
        # What lies in the intact part, by whatever name, is what it was; everything else is refused.
        out = self.folder / "out"
        for left in (out, self.folder / "cut.deja", self.folder / "again.deja"):
            shutil.rmtree(left, ignore_errors=True)
            left.unlink(missing_ok=True)
        known = [(f"{percent}%", first + (last - first) * percent // 100) for percent in (0, 1, 50, 100)]
        for at, step in [("start", first), ("end", last), (str(intact), intact), *known]:
            done = self.digest(rec, at)
            if step <= intact:
                self.check(done, self.INTACT_PART, damage, rf"step {step} digest")
                if step < intact:  # events that are lost may have the last step
                    self.assertEqual(done.stdout, self.digest(sound, step).stdout)
            else:
                self.check(done, self.ERROR, damage, "is intact")
                self.assertEqual(done.stdout, "")
        beyond = [(), ("--at", "end"), ("--at", "100%"), ("--at", "-1us"), ("--at", str(last))] if intact < last else []
        for at in beyond:
            self.check(deja("export", rec, "memory", *at, out), self.ERROR, damage)
            self.assertFalse(out.exists())
        if beyond:
            self.check(deja("who-wrote", rec, "200000", "--as", "phys"), self.ERROR, damage)
            self.check(deja("trim", rec, "-o", self.folder / "cut"), self.ERROR, damage)
            self.check(deja("live", rec, "--serial", "none", "-o", self.folder / "on"), self.ERROR, damage)
            self.check(deja("debug", "--at", "end", rec, "--", "-batch"), self.ERROR, damage)
            self.check(deja("dump", "--to", "end", rec), self.ERROR, damage)
            self.assertFalse((self.folder / "cut.deja").exists() or (self.folder / "on.deja").exists())
        for at in ("mark:no", 'serial:"no"', "event:999", "2199-01-01 00:00:00"):
            self.check(self.digest(rec, at), self.ERROR, damage)
        if first < intact:
            at = str(intact)
            for verb in (("replay", "--quiet", "--to", at), ("stats", "--to", at), ("dump", "--to", at)):
                self.check(deja(*verb, rec), self.INTACT_PART, damage)
            self.check(deja("export", rec, "memory", "--at", at, out), self.INTACT_PART, damage)
            self.check(deja("who-wrote", rec, "200000", "--as", "phys", "--at", at), self.INTACT_PART, damage)
            self.check(deja("trim", rec, "--to", at, "-o", self.folder / "cut"), self.INTACT_PART, damage)
            self.check(deja("verify", self.folder / "cut.deja"), self.OK, "identical")
            gdb = deja("debug", "--at", "start", rec, "--", "-batch", "-ex", "seek end", "-ex", f"seek {at}", "-ex", "continue")
            self.assertEqual(gdb.returncode, self.INTACT_PART, gdb.stderr)
            self.assertRegex(gdb.stdout + gdb.stderr, "the recording is damaged from here on: .*" + damage)
            out.unlink()
            shutil.rmtree(self.folder / "cut.deja")
        self.check(deja("pack", "-o", out, rec), self.INTACT_PART, damage)
        self.check(deja("unpack", "-o", self.folder / "again", out), self.INTACT_PART, damage)
        out.unlink()
        shutil.rmtree(self.folder / "again.deja")

    def damage_logs(self, sound):
        whole = (sound / "events.log").read_bytes()
        starts = frames_of(whole)
        self.assertGreaterEqual(len(starts), 8, "frames")
        self.assertEqual(starts[-1], len(whole))
        flips = {"header of the first frame": starts[0] + 2, "first frame": starts[0] + 15,
                 "middle frame": (starts[len(starts) // 2] + starts[len(starts) // 2 + 1]) // 2, "last frame": starts[-2] + 15}
        cuts = {"in the first frame": starts[0] + 15, "before the first frame": starts[0], "behind the first frame": starts[1],
                "before a middle frame": starts[len(starts) // 2], "in the last frame": len(whole) - 1,
                "before the last frame": starts[-2]}
        for name, at in flips.items():
            damaged = bytearray(whole)
            damaged[at] ^= 0x10
            yield f"flip: {name}", bytes(damaged)
        for name, at in cuts.items():
            yield f"cut: {name}", whole[:at]
        yield "more behind the end", whole + b"\xd5"

    def test_a_damaged_log(self):
        for sound in (self.sound, self.window):
            for name, log in self.damage_logs(sound):
                with self.subTest(name, recording=sound.name):
                    self.copy(sound)
                    (self.recording / "events.log").write_bytes(log)
                    self.check_verbs(sound)

    def test_a_log_that_is_none(self):
        whole = (self.sound / "events.log").read_bytes()
        for log in (b"", whole[:20], bytes([whole[0] ^ 1]) + whole[1:], whole[:17] + b"\xff" + whole[18:]):
            self.copy(self.sound)
            (self.recording / "events.log").write_bytes(log)
            for verb in (("info",), ("dump",), ("verify",), ("replay", "--to", "50%", "--digest"), ("pack", "-o", "/dev/null/x"),
                         ("debug",), ("trim", "-o", self.folder / "cut")):
                self.check(deja(*verb, self.recording), self.ERROR, r"events\.log")

    def test_a_damaged_manifest(self):
        whole = (self.sound / "manifest.json").read_bytes()
        for at in range(0, len(whole), len(whole) // 6):
            for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1:]):
                self.copy(self.sound)
                (self.recording / "manifest.json").write_bytes(damaged)
                for verb in (("info",), ("dump",), ("verify",), ("replay", "--to", "50%", "--digest"), ("index",),
                             ("trim", "-o", self.folder / "cut")):
                    self.check(deja(*verb, self.recording), self.ERROR, r"manifest\.json")
                self.check(deja("ls", self.folder), self.OK, "damaged: .*manifest")

    def test_damaged_checkpoints_cost_time_only(self):
        for sound in (self.sound, self.window):
            whole = (sound / "checkpoints.dat").read_bytes()
            want = {at: self.digest(sound, at).stdout for at in ("50%", "end")}
            for part in (0, 3, 5, 9):
                at = min(len(whole) * part // 10, len(whole) - 1)
                for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1:]):
                    self.copy(sound)
                    (self.recording / "checkpoints.dat").write_bytes(damaged)
                    for position, digest in want.items():
                        done = self.digest(self.recording, position)
                        if sound == self.sound or done.returncode == 0:
                            self.check(done, self.OK)
                            self.assertEqual(done.stdout, digest)
                        else:  # a window cannot do without its first one
                            self.check(done, self.ERROR, r"checkpoints\.dat|checkpoint at step")

    def test_what_a_killed_recorder_leaves_is_sound(self):
        recorder = lead(self.recording)
        log = self.recording / "events.log"
        size = log.stat().st_size
        at = len(recorder.output)
        recorder.type("mark one\nwork\n")
        recorder.expect(b"done", recorder.expect(b"done", at))
        wait_until(lambda: log.stat().st_size > size)
        recorder.kill()
        starts = frames_of(log.read_bytes())
        for cut in (0, 1):  # and with a frame that was not written in full
            if cut:
                log.write_bytes(log.read_bytes()[:starts[-2] + 15])
            for done in (deja("verify", self.recording), self.digest(self.recording, "end"),
                         self.digest(self.recording, "50%"), deja("export", self.recording, "memory", self.folder / f"m{cut}")):
                self.check(done, self.OK, "recording incomplete: ended by the death of its recorder after step")


class BadInput(ReplayTest):
    def test_each_mistake_has_its_message(self):
        text = self.folder / "text"
        text.write_text("no kernel\n" * 100)
        out = ("-o", self.recording.with_suffix(""))
        cases = {
            "missing kernel": (("record", *out, "--kernel", self.folder / "absent"), "absent"),
            "no kernel": (("record", *out, "--kernel", text), "text"),
            "initrd larger than RAM": (("record", *out, "-m", "64M", "--kernel", KERNEL, "--initrd", self.big_file()),
                                       "initrd"),
            "unknown option": (("record", "--no-such-option"), "no-such-option"),
            "unknown verb": (("frobnicate",), "frobnicate"),
            "bad memory": (("run", "-m", "lots", "--kernel", KERNEL), "lots"),
            "no such recording": (("replay", self.folder / "nothing.deja"), "nothing"),
            "bad position": (("replay", "--to", "yesterday", self.folder), "yesterday|recording"),
            "no place for the recording": (("record", "-o", "/proc/no/place", "--kernel", KERNEL), "/proc/no"),
        }
        for name, (arguments, word) in cases.items():
            with self.subTest(name):
                self.assert_clean_error(deja(*arguments), word)

    def big_file(self):
        path = self.folder / "big"
        with open(path, "wb") as f:
            f.truncate(200 << 20)
        return path

    def test_guest_that_triple_faults_at_once(self):
        done = deja("run", "--no-reboot", "-m", "128M", "--kernel", GUESTS / "reset_triple", "--serial", "none")
        self.assertNotIn("internal error", done.stderr)
        self.assertRegex(done.stdout + done.stderr, r"(?i)triple|reset")


if __name__ == "__main__":
    unittest.main()
