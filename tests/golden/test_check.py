"""What checks the golden recordings finds what it is there to find."""
import hashlib
import json
import os
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import check
import golden
import kernel

PROGRAMS = golden.Programs.of_build(os.environ["GOLDEN_BUILD"])
SAMPLE = next(path for path in golden.recordings() if path.name == "fpu")
LINUX = next(path for path in golden.recordings() if path.name == "linux")


class CheckTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="deja-golden-test-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def copy(self, path=SAMPLE):
        """A golden recording that a test may change, as a path without suffix."""
        for file in path.parent.glob(f"{path.name}.*"):
            (shutil.copytree if file.is_dir() else shutil.copyfile)(file, self.folder / file.name)
        return self.folder / path.name

    def lines(self, path):
        return path.with_suffix(golden.STEPS).read_text().splitlines()

    def write_lines(self, path, lines):
        path.with_suffix(golden.STEPS).write_text("".join(f"{line}\n" for line in lines))

    def test_a_golden_recording_passes(self):
        self.assertIsNone(check.check(PROGRAMS, self.copy()))

    def test_a_digest_that_differs_is_named_with_its_step(self):
        for part in check.PARTS:
            path = self.copy()
            lines = self.lines(path)
            words = lines[3].split()
            at = words.index(part) + 1
            words[at] = f"{int(words[at], 16) ^ 1:016x}"
            self.write_lines(path, [*lines[:3], " ".join(words), *lines[4:]])
            problem = check.check(PROGRAMS, path)
            step, before = (int(lines[i].split()[0]) for i in (3, 2))
            self.assertIn(f"{path.parent.name}/fpu: at step {step:,} under the default engine differs: {part} "
                          f"(identical at step {before:,})\n{check.VERDICT}", problem)

    def test_a_guest_that_does_something_else_is_found(self):
        """A golden recording's list of digests, and a recording of its guest with one byte changed."""
        path = self.copy()
        golden.must(PROGRAMS.deja, "unpack", path.with_suffix(golden.PACKED), "-o", self.folder / "old")
        program, = (self.folder / "old.deja" / "inputs").iterdir()
        changed = self.folder / "changed"
        changed.write_bytes(program.read_bytes().replace(b"PASS\n", b"PAST\n"))
        self.assertNotEqual(changed.read_bytes(), program.read_bytes())
        golden.run(PROGRAMS.deja, "record", "-o", self.folder / "new", "-m", "32M", "--kernel", changed, "--rtc",
                   "1000000000", "--rng-seed", "00112233445566778899aabbccddeeff")
        path.with_suffix(golden.PACKED).unlink()
        golden.must(PROGRAMS.deja, "pack", self.folder / "new.deja", "-o", path.with_suffix(golden.PACKED))
        first = int(self.lines(path)[0].split()[0])
        self.assertIn(f"at step {first:,} under the default engine differs: ram (the first step looked at)\n{check.VERDICT}",
                      check.check(PROGRAMS, path))

    def test_a_list_that_goes_on_behind_the_end_is_found(self):
        path = self.copy()
        last = self.lines(path)[-1].split()
        last[0] = str(int(last[0]) + 1_000_000_000)
        self.write_lines(path, [*self.lines(path), " ".join(last)])
        self.assertIn("is behind the end", check.check(PROGRAMS, path))

    def test_a_recording_without_its_list_is_no_success(self):
        path = self.copy()
        path.with_suffix(golden.STEPS).unlink()
        self.assertRegex(check.check(PROGRAMS, path), "^NOT RUN: .*fpu.steps is missing")

    def test_a_damaged_recording_is_no_success(self):
        path = self.copy()
        packed = path.with_suffix(golden.PACKED)
        packed.write_bytes(packed.read_bytes()[:-100])
        self.assertIn("`deja unpack`", check.check(PROGRAMS, path))

    def test_a_kernel_that_is_not_to_be_had_is_said_and_no_success(self):
        path = self.copy(LINUX)
        wanted = golden.kernel_of(path)
        wanted.update(version="6.1.0-0", package_sha256="0" * 64, sha256="0" * 64)
        path.with_suffix(golden.KERNEL_OF).write_text(json.dumps(wanted))
        with mock.patch.object(kernel, "download_exactly", return_value=False), \
                mock.patch.object(kernel, "SNAPSHOT", "file:///nowhere/"):
            problem = check.check(PROGRAMS, path)
        self.assertRegex(problem, r"^NOT RUN: golden recording .*/linux: its kernel is not to be had: linux-image-\S+ "
                                  r"6\.1\.0-0 is not in the cache, apt has it no more, and file:///nowhere/")

    def make_package(self):
        """A kernel's package, in an archive that has it by its SHA-1; what a FOLDER/NAME.kernel says of it."""
        root, archive = self.folder / "package", self.folder / "archive"
        for folder in (root / "DEBIAN", root / "boot", archive):
            folder.mkdir(parents=True)
        (root / "boot/vmlinuz-1-golden").write_bytes(b"a kernel")
        (root / "DEBIAN/control").write_text("Package: linux-image-golden\nVersion: 1\nArchitecture: amd64\n"
                                             "Maintainer: nobody <nobody@localhost>\nDescription: a test\n")
        deb = self.folder / "package.deb"
        golden.must("dpkg-deb", "--build", root, deb)
        content = deb.read_bytes()
        sha1 = hashlib.sha1(content).hexdigest()
        (archive / sha1).write_bytes(content)
        return archive, {"package": "linux-image-golden", "version": "1", "file": "vmlinuz-1-golden",
                         "package_sha256": hashlib.sha256(content).hexdigest(), "package_sha1": sha1,
                         "sha256": hashlib.sha256(b"a kernel").hexdigest()}

    def test_the_snapshot_archive_is_the_last_resort(self):
        """What apt has no more comes from the archive, and is what was recorded or nothing."""
        archive, wanted = self.make_package()
        with mock.patch.dict(os.environ, XDG_CACHE_HOME=str(self.folder / "cache")), \
                mock.patch.object(kernel, "download_exactly", return_value=False), \
                mock.patch.object(kernel, "SNAPSHOT", f"file://{archive}/"):
            found = kernel.find(wanted)
            self.assertEqual(found.read_bytes(), b"a kernel")
            package = kernel.Package(wanted["package"], wanted["version"], wanted["package_sha256"], "")
            self.assertEqual(kernel.identity(package, wanted["package_sha1"]), wanted)
            found.unlink()
            with self.assertRaisesRegex(kernel.NotToBeHad, "holds another kernel"):
                kernel.find({**wanted, "sha256": "0" * 64})
            package.path.unlink()
            (archive / wanted["package_sha1"]).write_bytes(b"something else")
            with self.assertRaisesRegex(kernel.NotToBeHad, "is not the package"):
                kernel.find(wanted)


if __name__ == "__main__":
    unittest.main()
