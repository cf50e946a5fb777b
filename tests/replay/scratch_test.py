"""A guest that writes more to its disk than is kept in memory: the rest goes to scratch space on the host's disk."""
import os
import pty
import resource
import select
import subprocess
import unittest
from pathlib import Path

from devices_test import devices_guest
from guest_session import DEJA, PROMPT, TIMEOUT, ReplayTest, deja

MEMORY_MIB = 256  # src/devices/storage/block_store.cc
FILL = f"drivers; busybox yes | dd of=/dev/vda bs=1M count={MEMORY_MIB + 64} iflag=fullblock conv=fsync; echo fi''lled\n"


class Scratch(ReplayTest):
    def start(self, **environment):
        self.disk = self.folder / "disk.raw"
        with open(self.disk, "wb") as file:
            file.truncate(1 << 30)
        guest = devices_guest()
        self.main, side = pty.openpty()
        self.output = b""
        recorder = subprocess.Popen([DEJA, "record", "-o", self.recording, "-m", "256M", "--kernel", guest["kernel"],
                                     "--initrd", guest["initrd"], "--append", "console=ttyS0 quiet",
                                     "--checkpoint-every", "off", "--drive", f"file={self.disk}"],
                                    stdin=side, stdout=side, stderr=side, start_new_session=True,
                                    env={**os.environ, **environment})
        os.close(side)
        self.addCleanup(os.close, self.main)
        self.addCleanup(recorder.kill)
        self.expect(PROMPT)
        return recorder

    def expect(self, text):
        while text not in self.output:
            self.assertTrue(select.select([self.main], [], [], TIMEOUT)[0], self.output)
            self.output += os.read(self.main, 65536)
        self.output = self.output[self.output.index(text) + len(text):]

    def type(self, text):
        os.write(self.main, text.encode())

    def scratch_bytes(self, pid, folder):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(entry).startswith(f"{folder}/") and os.readlink(entry).endswith("(deleted)"):
                return entry.stat().st_size
        self.fail("there is no scratch file")

    def end(self, recorder):
        self.type("poweroff -f\n")
        self.expect(b"recorded in")
        self.assertEqual(recorder.wait(TIMEOUT), 0)

    def test_a_full_disk_pauses_the_machine_until_there_is_room(self):
        place = self.folder / "scratch"
        place.mkdir()
        recorder = self.start(TMPDIR=str(place))
        _, hard = resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (20 << 20, hard))
        self.type(FILL)
        self.expect(f"scratch space in {place}: cannot write".encode())
        self.expect(b"the machine is paused until that works")
        self.assertEqual(self.scratch_bytes(recorder.pid, place), 20 << 20)
        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (hard, hard))
        self.expect(b"the machine goes on")
        self.expect(b"filled")
        self.assertGreaterEqual(self.scratch_bytes(recorder.pid, place), 60 << 20)
        self.end(recorder)
        self.assertEqual(list(place.iterdir()), [])
        self.assertEqual(self.disk.stat().st_blocks, 0, "the image is never written")
        done = self.assert_identical("--sandbox", "strict")
        self.assertNotIn("scratch space", done.stderr, "a replay has its own")

    def test_without_a_place_for_it_memory_is_used(self):
        recorder = self.start(TMPDIR=str(self.folder / "none"))
        self.type("drivers; echo he''re | dd of=/dev/vda; head -c 4 /dev/vda\n")
        self.expect(b"here")
        self.expect(PROMPT)
        self.type("\x01x")
        self.expect(b"\r\ndeja: ended by quit")  # not behind the prompt
        self.expect(b"recorded in")
        self.assertEqual(recorder.wait(TIMEOUT), 0)
        done = deja("verify", self.recording, env={**os.environ, "TMPDIR": str(self.folder / "none")})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("TMPDIR names another place", done.stderr)



if __name__ == "__main__":
    unittest.main()
