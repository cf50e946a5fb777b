"""Debug exceptions that a program without rights makes through ptrace: Debian's kernel survives them all."""
import os
import sys
import unittest
from pathlib import Path

from guest_session import INITRD, ReplayTest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from image import with_files  # noqa: E402 (tools/ is not a package)


class DebugTraps(ReplayTest):
    def test_mov_ss_and_entries_to_the_kernel_under_ptrace(self):
        program = Path(os.environ["DEJA_GUESTS"]).parent / "replay/debug_traps"
        initrd = self.folder / "initrd"
        initrd.write_bytes(with_files(Path(INITRD).read_bytes(), {"usr/bin/debug_traps": program.read_bytes()}))
        recorder, at = self.record_until_prompt(initrd=str(initrd))
        recorder.type("debug_traps\n")
        at = recorder.expect(b" wrong\r\n", at)
        self.assertIn(b"debug traps: 0 wrong", recorder.output)
        recorder.type("dmesg | grep -c exc_debug\n")  # no warning of the kernel's own about a stray trap
        recorder.expect(b"\n0\r\n", at)
        self.power_off_and_verify(recorder, chaos=1)


if __name__ == "__main__":
    unittest.main()
