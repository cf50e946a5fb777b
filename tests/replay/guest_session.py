"""A recorder with a script at its console, and the other commands of deja, for the tests in this folder."""
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

DEJA = os.environ["DEJA"]
KERNEL = os.environ["DEJA_KERNEL"]
INITRD = os.environ["DEJA_INITRD"]
GUESTS = Path(os.environ["DEJA_GUESTS"])
PROMPT = b"demo# "
TIMEOUT = int(os.environ.get("DEJA_TIMEOUT", 300))


class Recorder:
    """`deja record`, or another command, of the demo guest with pipes for a terminal."""

    def __init__(self, recording=None, append="console=ttyS0", options=(), kernel=KERNEL, initrd=INITRD, command=None,
                 memory="256M", **popen):
        self.output = b""
        self.process = subprocess.Popen(
            [DEJA, *(command or ["record", "-o", str(recording.with_suffix(""))]), "-m", memory,
             *(["--kernel", kernel] if kernel else []), *(["--initrd", initrd] if kernel and initrd else []),
             *(["--append", append] if append else []), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)

    def expect(self, pattern, since=0):
        """Waits until the console shows `pattern` behind position `since`; returns the position after it."""
        deadline = time.monotonic() + TIMEOUT
        while (at := self.output.find(pattern, since)) < 0:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"no {pattern!r} within {TIMEOUT} s; console so far:\n{self.output.decode(errors='replace')}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise AssertionError(f"ended without {pattern!r}:\n{self.output.decode(errors='replace')}\n"
                                     f"{self.process.stderr.read().decode(errors='replace')}")
            self.output += data
        return at + len(pattern)

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def finish(self):
        """Waits for the end; returns (status, messages)."""
        rest, messages = self.process.communicate(timeout=TIMEOUT)
        self.output += rest
        return self.process.returncode, messages.decode(errors="replace")

    def kill(self):
        self.process.kill()
        self.finish()


def deja(*arguments, **options):
    """Runs a command of deja; its CompletedProcess with decoded output."""
    return subprocess.run([DEJA, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT,
                          text=True, errors="replace", **options)


class ReplayTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="deja-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.recording = self.folder / "run.deja"

    def record_until_prompt(self, **options):
        recorder = Recorder(self.recording, **options)
        self.addCleanup(recorder.process.kill)
        return recorder, recorder.expect(PROMPT)

    def assert_identical(self, *options):
        done = deja("verify", *options, self.recording)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout.strip().splitlines()[-1], r"^identical: [\d,]+ instructions, [\d,]+ digests$")
        return done

    def power_off(self, recorder):
        recorder.type("poweroff -f\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 0, messages)
        return messages

    def power_off_and_verify(self, recorder, chaos=None):
        """Also with an engine that throws its caches away at random, from the seed `chaos`."""
        messages = self.power_off(recorder)
        self.assert_identical()
        if chaos is not None:
            self.assert_identical("--chaos-engine", chaos)
        return messages

    def assert_clean_error(self, done, *words):
        """Failed with a message that names what is at fault, not with a crash."""
        said = done.stdout + done.stderr
        self.assertGreater(done.returncode, 0, said)
        self.assertNotIn("internal error", said)
        for word in words:
            self.assertRegex(said, re.compile(word, re.IGNORECASE))
