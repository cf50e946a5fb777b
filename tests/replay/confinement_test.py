"""What the kernel says of a running recorder and its helpers (docs/security.md)."""
import os
import re
import struct
import time
import unittest
from pathlib import Path

from devices_test import Devices as DevicesTest
from guest_session import ReplayTest, deja


def empty_qcow2(path, size=1 << 20):
    """Version 2, clusters of 64 KiB, none of them there."""
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, size, 0, 1, 1 << 16, 2 << 16, 1, 0, 0)
    path.write_bytes(header.ljust(3 << 16, b"\0"))


def status(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.M))


def children(pid):
    return [int(entry.name) for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and (entry / "status").exists() and status(entry.name).get("PPid") == str(pid)]


def descriptors(pid):
    return [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]


def shared_mappings(pid):
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in lines if re.match(r"[0-9a-f]+-[0-9a-f]+ ...s", line)]


class Confinement(ReplayTest):
    def assert_confined(self, pid):
        about = status(pid)
        self.assertEqual(about["Seccomp"], "2", about["Name"])
        self.assertEqual(about["NoNewPrivs"], "1", about["Name"])

    def test_a_running_recorder_is_confined(self):
        image = self.folder / "disk.qcow2"
        empty_qcow2(image)
        recorder, _ = self.record_until_prompt(
            options=["--sandbox", "strict", "--drive", f"file={image}", "--nic", "user"])
        engine = recorder.process.pid
        self.assert_confined(engine)
        helpers = {status(pid)["Name"]: pid for pid in children(engine)}
        self.assertLessEqual({"deja-image", "deja-net"}, set(helpers))
        for pid in helpers.values():
            self.assert_confined(pid)

        held = descriptors(engine)
        scratch = os.environ.get("TMPDIR", "/var/tmp")
        self.assertFalse([d for d in held if d.startswith("/")
                          and not d.startswith((str(self.recording), "/memfd:", f"{scratch}/#")) and d != "/dev/null"],
                         "the engine holds only its recording and a file without a name")
        self.assertNotIn(str(image), held, "a qcow2 image is its reader's")
        self.assertIn(str(image), descriptors(helpers["deja-image"]))
        for name in ("deja-image", "deja-net"):
            others = [d for d in descriptors(helpers[name]) if d.startswith(str(self.recording))]
            self.assertFalse(others, f"{name} holds nothing of the recording")
        for name, pid in helpers.items():
            self.assertEqual(shared_mappings(pid), [], f"{name} shares no memory with the engine, least of all its code")

        recorder.process.terminate()
        recorder.finish()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in helpers.values()):
            time.sleep(0.05)
        self.assertFalse([name for name, pid in helpers.items() if Path(f"/proc/{pid}").exists()], "helpers end with it")
        self.assert_identical("--sandbox", "strict")

    def test_pictures_are_made_by_processes_that_can_do_nothing_else(self):
        recorder, _ = self.record_until_prompt(options=["--sandbox", "strict", "--screen", "640x480"])
        helpers = {}
        pending = [recorder.process.pid]
        while pending:
            for child in children(pending.pop()):
                helpers[status(child)["Name"]] = child
                pending.append(child)
        self.assertLessEqual({"deja-picture", "deja-png"}, set(helpers))
        for name in ("deja-picture", "deja-png"):
            self.assert_confined(helpers[name])
            self.assertEqual([d for d in descriptors(helpers[name]) if d.startswith("/") and d != "/dev/null"], [])
        recorder.process.terminate()
        recorder.finish()

    def test_a_dead_image_reader_stops_the_session_and_not_the_recording(self):
        image = self.folder / "disk.qcow2"
        empty_qcow2(image)
        recorder, _ = DevicesTest.start(self, "--drive", f"file={image}")
        reader = next(pid for pid in children(recorder.process.pid) if status(pid)["Name"] == "deja-image")
        os.kill(reader, 9)
        recorder.type("dd if=/dev/vda of=/dev/null bs=64k iflag=direct skip=8\n")
        code, messages = recorder.finish()
        self.assertNotEqual(code, 0)
        self.assertIn("the process that reads it has ended", messages)
        self.assert_identical()

    def test_without_the_sandbox_there_are_no_helpers(self):
        image = self.folder / "disk.qcow2"
        empty_qcow2(image)
        recorder, _ = self.record_until_prompt(
            options=["--sandbox", "off", "--drive", f"file={image}", "--nic", "user"])
        self.assertEqual(status(recorder.process.pid)["Seccomp"], "0")
        self.assertEqual(children(recorder.process.pid), [])
        recorder.process.terminate()
        recorder.finish()
        self.assert_identical("--sandbox", "off")

    def test_exports_are_written_where_they_were_asked_for(self):
        recorder, _ = self.record_until_prompt(options=["--nic", "user"])
        recorder.process.terminate()
        recorder.finish()
        for what, name in (("memory", "ram.bin"), ("pcap", "traffic.pcapng")):
            out = self.folder / name
            done = deja("export", "--sandbox", "strict", self.recording, what, out)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(out.stat().st_size, 0)
        again = deja("export", "--sandbox", "strict", self.recording, "memory", self.folder / "ram.bin")
        self.assertNotEqual(again.returncode, 0, "a file that is there is not overwritten")
        failed = deja("export", "--sandbox", "strict", self.recording, "memory", self.folder / "nowhere" / "ram.bin")
        self.assertIn("No such file or directory", failed.stderr)


if __name__ == "__main__":
    unittest.main()
