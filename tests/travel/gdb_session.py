"""Recordings, and gdb on them, for the tests in this folder."""
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

DEJA = os.environ["DEJA"]
GUESTS = Path(os.environ["DEJA_GUESTS"])
TIMEOUT = 500


def deja(*arguments):
    """Runs a command of deja; its CompletedProcess with decoded output."""
    return subprocess.run([DEJA, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT,
                          text=True, errors="replace")


class TravelTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="deja-travel-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.recording = self.folder / "rec.deja"

    def record(self, guest, *options):
        """Records a bare-metal guest; its serial output."""
        done = deja("record", "-o", self.recording.with_suffix(""), "-m", "64M", "--kernel", GUESTS / guest, *options)
        self.assertTrue(self.recording.is_dir(), done.stderr)
        return done.stdout

    def gdb(self, script, *options, status=0):
        """Runs gdb's commands in `script` on the recording; what it shows."""
        path = self.folder / "script.gdb"
        path.write_text("set pagination off\nset confirm off\nset width 0\n" + script)
        done = deja("debug", *options, self.recording, "--", "-nx", "-batch", "-x", path)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def assert_shown(self, output, *patterns):
        """Each pattern, in this order."""
        at = 0
        for pattern in patterns:
            found = re.compile(pattern, re.M).search(output, at)
            self.assertTrue(found, f"no {pattern!r} from here on:\n{output[at:]}\n--- of all this:\n{output}")
            at = found.end()
