"""What can happen to a recorder and to a recording: each a clear message, and what was recorded stays usable."""
import json
import os
import pty
import resource
import select
import shutil
import signal
import subprocess
import time
import unittest

from guest_session import DEJA, GUESTS, INITRD, KERNEL, PROMPT, TIMEOUT, ReplayTest, deja


class Killed(ReplayTest):
    def test_recorder_killed_with_sigkill_leaves_a_recording_up_to_the_last_second(self):
        recorder, _ = self.record_until_prompt()
        recorder.type("while :; do relay 10; done\n")
        time.sleep(3)
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
