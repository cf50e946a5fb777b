"""The console of a session: pipes, /dev/null, files, a terminal, the monitor; and QEMU's way to say it all."""
import json
import os
import pty
import re
import select
import socket
import subprocess
import termios
import unittest

from guest_session import DEJA, GUESTS, INITRD, KERNEL, PROMPT, ReplayTest, TIMEOUT, deja

BOOT = ["-m", "256M", "--kernel", KERNEL, "--initrd", INITRD, "--append", "console=ttyS0"]


class Console(ReplayTest):
    def test_stdin_from_dev_null_and_output_piped(self):
        done = subprocess.run([DEJA, "record", "-o", self.recording, "-m", "128M", "--kernel", GUESTS / "paging"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 1)  # the guest leaves with value 0
        self.assertIn(b"PASS", done.stdout)
        self.assert_identical()
        replay = deja("replay", self.recording)
        self.assertIn("PASS", replay.stdout)
        self.assertRegex(replay.stdout, r"replayed [\d,]+ instructions in [\d.]+ s, \d+ digests?, identical\n$")
        self.assertNotIn("PASS", deja("replay", "--quiet", self.recording).stdout)

    def test_reader_that_goes_away_does_not_change_the_guest(self):
        recorder, _ = self.record_until_prompt()
        recorder.process.stdout.close()
        recorder.type("seq 1 200; poweroff -f\n")
        recorder.process.stdin.close()
        messages = recorder.process.stderr.read().decode()
        self.assertEqual(recorder.process.wait(TIMEOUT), 0, messages)
        recorder.process.stderr.close()
        self.assertEqual(json.loads(deja("info", "--json", self.recording).stdout)["end"], "power-off")
        self.assert_identical()

    def test_serial_to_a_file_and_to_nothing(self):
        console = self.folder / "console"
        done = deja("run", "-m", "128M", "-kernel", GUESTS / "paging", "-serial", f"file:{console}")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(b"PASS", console.read_bytes())
        self.assertEqual(deja("run", "-m", "128M", "-kernel", GUESTS / "paging", "-serial", "none").stdout, "")

    def test_a_branch_opens_no_file_that_a_recording_names(self):
        theirs, ours = self.folder / "theirs", self.folder / "ours"
        done = deja("record", "-o", self.recording, "-m", "128M", "--kernel", GUESTS / "paging", "--serial", f"file:{theirs}")
        self.assertIn(b"PASS", theirs.read_bytes(), done.stderr)
        theirs.write_text("precious")
        manifest = json.loads((self.recording / "manifest.json").read_text())
        self.assertEqual(manifest["machine"]["serial"], [f"file:{theirs}"])
        for name, options in (("plain", ()), ("strict", ("--sandbox", "strict"))):
            live = deja("live", "--at", "1000", "-o", self.folder / name, *options, self.recording)
            self.assertIn("PASS", live.stdout, live.stderr)
            self.assertIn(f"COM1 was connected to file:{theirs} in the recording, which is not opened", live.stderr)
            self.assertEqual(theirs.read_text(), "precious")
            manifest = json.loads((self.folder / f"{name}.deja/manifest.json").read_text())
            self.assertEqual(manifest["machine"]["serial"], ["stdio"])
        live = deja("live", "--at", "1000", "-o", self.folder / "named", "--serial", f"file:{ours}", self.recording)
        self.assertNotIn("was connected", live.stderr)
        self.assertIn(b"PASS", ours.read_bytes())
        self.assertEqual(theirs.read_text(), "precious")

    def test_terminal_is_raw_while_it_runs_and_sane_afterwards(self):
        for keys, by in ((b"\x01x", "Ctrl-A x"), (None, "SIGTERM")):
            with self.subTest(by):
                main, side = pty.openpty()
                before = termios.tcgetattr(side)
                process = subprocess.Popen([DEJA, "run", *BOOT], stdin=side, stdout=side, stderr=side, start_new_session=True)
                self.addCleanup(process.kill)
                output = b""
                while PROMPT not in output:
                    self.assertTrue(select.select([main], [], [], TIMEOUT)[0], output)
                    output += os.read(main, 65536)
                self.assertFalse(termios.tcgetattr(side)[3] & termios.ICANON)
                os.write(main, b"echo in$((1))\n\r")
                while b"in1" not in output:
                    output += os.read(main, 65536)
                os.write(main, keys) if keys else process.terminate()
                self.assertEqual(process.wait(TIMEOUT), 0)
                self.assertEqual(termios.tcgetattr(side), before)
                os.close(main), os.close(side)

    def test_terminal_is_sane_after_a_failure(self):
        main, side = pty.openpty()
        before = termios.tcgetattr(side)
        for options in (["--kernel", "/no/such/kernel"], ["--no-such-option"], ["--kernel", KERNEL, "-m", "32M", "--initrd", INITRD]):
            process = subprocess.Popen([DEJA, "run", *options], stdin=side, stdout=side, stderr=side)
            self.assertGreater(process.wait(TIMEOUT), 0)
            self.assertEqual(termios.tcgetattr(side), before)
        os.close(main), os.close(side)

    def test_monitor_socket(self):
        recorder, at = self.record_until_prompt(append="console=ttyS0 sysrq_always_enabled")
        with socket.socket(socket.AF_UNIX) as monitor:
            # A socket's path has at most 107 bytes; the test's folder is short enough.
            monitor.connect(str(self.recording / "monitor.sock"))
            lines = monitor.makefile("rw")

            def ask(command):
                lines.write(command + "\n")
                lines.flush()
                return lines.readline()

            self.assertRegex(ask("status"), r"(running|idle) at step \d+")
            lines.readline()  # its second line: the recording
            self.assertEqual(ask("pause"), "ok\n")
            paused = set()
            for _ in range(50):
                paused.update(re.findall(r"paused at step \d+", ask("status")))
                lines.readline()
            self.assertEqual(len(paused), 1, "it stays where it is")
            self.assertEqual(ask("mark here"), "ok\n")
            self.assertEqual(ask("resume"), "ok\n")
            self.assertEqual(ask("sysrq h"), "ok\n")
            recorder.expect(b"sysrq: HELP", at)
            self.assertEqual(ask("nmi"), "ok\n")
            recorder.expect(b"NMI", at)
            self.assertEqual(ask("quit"), "ok\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        self.assert_identical()
        dump = deja("dump", "--kind", "pause,resume,mark,break,nmi,end", self.recording).stdout
        self.assertEqual([line.split()[1] for line in dump.splitlines()], ["pause", "mark", "resume", "break", "nmi", "end"])


class Commands(ReplayTest):
    def setUp(self):
        super().setUp()
        self.environment = {**os.environ, "XDG_DATA_HOME": str(self.folder)}

    def deja(self, *arguments):
        return deja(*arguments, env=self.environment)

    def test_recordings_by_name(self):
        for name in ("one", "two"):
            self.assertEqual(self.deja("record", "-o", name, "-m", "64M", "-kernel", GUESTS / "power_off").returncode, 0)
        self.assertEqual([line.split()[0] for line in self.deja("ls").stdout.splitlines()], ["name", "one", "two"])
        self.assertIn("two.deja", self.deja("info", "latest").stdout)
        verify = self.deja("verify", "one", "two.deja")
        self.assertEqual((verify.returncode, verify.stdout.count("identical:")), (0, 2))
        self.assert_clean_error(self.deja("record", "-o", "one", "-kernel", GUESTS / "power_off"), "exists")
        self.assertEqual(self.deja("rm", "two").returncode, 0)
        self.assertIn("one.deja", self.deja("info", "latest").stdout)
        self.assert_clean_error(self.deja("replay", "two"), "two")

    def test_info_for_scripts(self):
        self.assertEqual(self.deja("record", "-o", "one", "-m", "64M", "-kernel", GUESTS / "power_off").returncode, 0)
        info = json.loads(self.deja("info", "--json", "one").stdout)
        for key in ("steps", "instructions", "virtual_ns", "host_ns", "log_bytes", "digests"):
            self.assertGreater(info[key], 0, key)
        self.assertEqual((info["end"], info["complete"]), ("power-off", True))

    def test_positions(self):
        self.assertEqual(self.deja("record", "-o", "one", "-m", "64M", "-kernel", GUESTS / "power_off").returncode, 0)
        for position in ("start", "50%", "end", "1,000"):
            self.assertEqual(self.deja("replay", "--quiet", "--to", position, "one").returncode, 0)
        self.assert_clean_error(self.deja("replay", "--to", "999999999999", "one"), "behind the end")

    def test_same_run_twice_from_the_same_seeds(self):
        options = ["-m", "64M", "--rtc", "1000000000", "--rng-seed", "00ff", "-kernel", GUESTS / "paging"]
        for name in ("one", "two"):
            self.deja("record", "-o", name, *options)
        digests = [self.deja("dump", "--kind", "digest", name).stdout for name in ("one", "two")]
        self.assertTrue(digests[0])
        self.assertEqual(digests[0], digests[1])

    def test_exit_statuses(self):
        self.assertEqual(self.deja("run", "--no-reboot", "-m", "64M", "-kernel", GUESTS / "reset_cf9").returncode, 0)
        self.assertEqual(self.deja("run", "-m", "64M", "-kernel", GUESTS / "power_off").returncode, 0)
        self.assertEqual(self.deja("run", "-m", "64M").returncode, 2)
        self.assertEqual(self.deja().returncode, 2)
        for arguments in (["--help"], ["help"], ["help", "record"], ["version"], ["replay", "--help"]):
            done = self.deja(*arguments)
            self.assertEqual((done.returncode, bool(done.stdout)), (0, True), arguments)

    def test_bisect_of_a_sound_recording(self):
        self.deja("record", "-o", "one", "-m", "64M", "-kernel", GUESTS / "paging")
        done = self.deja("bisect", "one")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("identical", done.stdout)


if __name__ == "__main__":
    unittest.main()
