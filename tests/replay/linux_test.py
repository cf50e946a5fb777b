"""Record and replay of Debian's kernel: boot, input at odd moments, idling, panic, reboot, chaos."""
import os
import subprocess
import time
import unittest

from guest_session import DEJA, PROMPT, TIMEOUT, ReplayTest, Recorder, deja


class Linux(ReplayTest):
    def test_boot_with_input_at_odd_moments(self):
        recorder = Recorder(self.recording)
        self.addCleanup(recorder.process.kill)
        recorder.type("# typed before there is a console\n")
        recorder.expect(b"Linux version")
        recorder.type("echo typed while booting\n")
        at = recorder.expect(PROMPT)
        recorder.type("relay 20\n")
        for _ in range(20):  # while it works and while it idles
            recorder.type("#")
            time.sleep(0.03)
        recorder.type("\n")
        recorder.expect(PROMPT, at)
        recorder.type("echo $((6*7)); sleep 1; poweroff -f\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        self.assertIn(b"42", recorder.output)
        self.assert_identical()
        replay = deja("replay", self.recording)
        self.assertEqual(replay.returncode, 0, replay.stderr)
        recorded = recorder.output.decode(errors="replace").replace("\r\n", "\n").rstrip()
        self.assertIn(recorded, replay.stdout.replace("\r\n", "\n"))
        self.assertRegex(replay.stdout, r"\d digests, identical\n$")
        begun = deja("replay", "--to", 5, self.recording).stdout
        self.assertRegex(begun, r"replayed 5 instructions in .*, no digest on the way: nothing was compared\n$")

    def test_twenty_seeds_of_engine_chaos(self):
        recorder, at = self.record_until_prompt()
        recorder.type("tour; poweroff -f\n")
        self.assertEqual(recorder.finish()[0], 0)
        for seed in range(1, 21):
            self.assert_identical("--chaos-engine", seed)

    def test_four_vcpus_under_engine_chaos(self):
        recorder, at = self.record_until_prompt(options=["-smp", "4"])
        recorder.type("for i in 1 2 3 4; do relay 20 >/dev/null & done; wait; echo all of $((2+2)) done; poweroff -f\n")
        recorder.expect(b"all of 4 done", at)
        self.assertEqual(recorder.finish()[0], 0)
        self.assert_identical()
        for seed in range(1, 5):
            self.assert_identical("--chaos-engine", seed)

    def test_idle_guest_sleeps_and_keeps_pace_with_the_wall_clock(self):
        recorder, at = self.record_until_prompt()
        recorder.type("cut -d' ' -f1 /proc/uptime; sleep 3; cut -d' ' -f1 /proc/uptime; poweroff -f\n")
        began = time.monotonic()
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        # Guest time may lag behind while busy and is made up while idle: three seconds of sleep cannot take
        # much more than three on the host.
        self.assertLess(time.monotonic() - began, 30)
        self.assert_identical()

    def test_replay_shows_output_as_it_comes(self):
        recorder, _ = self.record_until_prompt()
        recorder.type("echo fir''st; sleep 3; echo sec''ond; poweroff -f\n")
        self.assertEqual(recorder.finish()[0], 0)
        with subprocess.Popen([DEJA, "replay", "--realtime", self.recording], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as replay:
            self.addCleanup(replay.kill)
            shown = b""
            while b"first\r\n" not in shown:
                data = os.read(replay.stdout.fileno(), 65536)
                self.assertTrue(data, shown)
                shown += data
            self.assertNotIn(b"second\r\n", shown)
            rest, _ = replay.communicate(timeout=TIMEOUT)
            self.assertIn(b"second\r\n", rest)
            self.assertIn(b"identical", rest)

    def test_panic_and_reboot(self):
        recorder, at = self.record_until_prompt(append="console=ttyS0 panic=1")
        recorder.type("echo c > /proc/sysrq-trigger\n")
        at = recorder.expect(b"Kernel panic", at)
        at = recorder.expect(b"Linux version", at)  # the panic's reboot
        recorder.expect(PROMPT, at)
        self.power_off_and_verify(recorder)

    def test_boot_through_the_guests_own_decompressor(self):
        recorder, _ = self.record_until_prompt(options=["--boot", "bzimage"])
        recorder.type("poweroff -f\n")
        self.assertEqual(recorder.finish()[0], 0)
        self.assert_identical()

    def test_smaller_cpu_model(self):
        recorder, _ = self.record_until_prompt(options=["--cpu", "x86-64-v2"])
        recorder.type("grep -c avx /proc/cpuinfo; poweroff -f\n")
        self.assertEqual(recorder.finish()[0], 0)
        self.assert_identical()


if __name__ == "__main__":
    unittest.main()
