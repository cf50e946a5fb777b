"""The initramfs writer: same files, same bytes; and a form that cpio's own rules accept."""

import sys
import unittest

import paths  # noqa: F401
from debian import Node, merged
from image import Image, needed_libraries


def small_image(reverse: bool = False) -> Image:
    image = Image.__new__(Image)
    image._nodes, image._offered = {}, {}
    files = [("init", b"#!/bin/sh\n"), ("etc/deep/er", b"x" * 5), ("usr/share/z", b"")]
    for path, data in reversed(files) if reverse else files:
        image.write(path, data, 0o755)
    image.link("bin", "usr/bin")
    return image


def entries(archive: bytes) -> list[tuple[str, int, bytes]]:
    found, at = [], 0
    while True:
        assert at % 4 == 0 and archive[at:at + 6] == b"070701"
        field = [int(archive[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110:at + 110 + field[11] - 1].decode()
        at = (at + 110 + field[11] + 3) & ~3
        if name == "TRAILER!!!":
            return found
        assert field[2] == field[3] == field[5] == 0, "owner root, time zero"
        found.append((name, field[1], archive[at:at + field[6]]))
        at = (at + field[6] + 3) & ~3


class ImageTest(unittest.TestCase):
    def test_order_of_adding_does_not_matter(self):
        self.assertEqual(small_image().cpio(), small_image(reverse=True).cpio())
        self.assertEqual(small_image().initramfs(), small_image().initramfs())

    def test_entries(self):
        found = {name: (mode, data) for name, mode, data in entries(small_image().cpio())}
        self.assertEqual(found["init"], (0o100755, b"#!/bin/sh\n"))
        self.assertEqual(found["bin"], (0o120777, b"usr/bin"))
        self.assertEqual(found["etc/deep"][0], 0o040755)
        self.assertEqual(found["dev/console"][0], 0o020600)

    def test_parents_come_before_children(self):
        names = [name for name, _, _ in entries(small_image().cpio())]
        self.assertLess(names.index("etc"), names.index("etc/deep"))
        self.assertLess(names.index("etc/deep"), names.index("etc/deep/er"))

    def test_libraries_of_an_elf_file(self):
        with open(sys.executable, "rb") as file:
            names = needed_libraries(file.read())
        self.assertIn("libc.so.6", names)
        self.assertTrue(any("ld-linux" in name for name in names), names)
        self.assertEqual(needed_libraries(b"#!/bin/sh\n"), [])

    def test_merged_usr(self):
        self.assertEqual(merged("lib64/ld.so"), "usr/lib64/ld.so")
        self.assertEqual(merged("usr/bin/x"), "usr/bin/x")
        self.assertEqual(merged("library/x"), "library/x")

    def test_unresolved_file_is_named(self):
        with self.assertRaisesRegex(SystemExit, "/usr/bin/nothing"):
            small_image().add("bin/nothing")

    def test_link_targets_come_along(self):
        image = small_image()
        image._offered = {"usr/lib/a": Node(0o777, link="../share/b"), "usr/share/b": Node(0o644, data=b"b")}
        image.add("lib/a")
        self.assertIn("usr/share/b", [name for name, _, _ in entries(image.cpio())])


if __name__ == "__main__":
    unittest.main()
