"""Root file systems for guests: picks programs with the libraries they need, packs them as an initramfs.

The result depends on nothing but the files: entries sorted, owner root, times zero. Written by hand rather than with
cpio(1) so that /dev/console can be in it without being root.
"""

import posixpath
import struct
import subprocess
import sys
from pathlib import Path

from debian import Node, contents, fetch, merged

LIBRARY_PATH = ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"]


def needed_libraries(elf: bytes) -> list[str]:
    """DT_NEEDED and PT_INTERP of an ELF64 file; nothing for scripts and data."""
    if elf[:5] != b"\x7fELF\x02":
        return []
    header_offset, = struct.unpack_from("<Q", elf, 32)
    entry_size, count = struct.unpack_from("<HH", elf, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", elf, header_offset + i * entry_size) for i in range(count)]
    loads = [s for s in segments if s[0] == 1]
    names = []
    for kind, _, offset, _, _, size, _, _ in segments:
        if kind == 3:  # PT_INTERP
            names.append(elf[offset:offset + size].rstrip(b"\0").decode().lstrip("/"))
        if kind != 2:  # PT_DYNAMIC
            continue
        entries = [struct.unpack_from("<qQ", elf, offset + i) for i in range(0, size, 16)]
        strings = next((value for tag, value in entries if tag == 5), None)  # DT_STRTAB, a virtual address
        table = next(s[2] + strings - s[3] for s in loads if s[3] <= strings < s[3] + s[5])
        for tag, value in entries:
            if tag == 1:  # DT_NEEDED
                start = table + value
                names.append(elf[start:elf.index(b"\0", start)].decode())
    return names


def with_files(initramfs: bytes, files: dict[str, bytes]) -> bytes:
    """The same with executable files added, as one more "newc" archive: the kernel unpacks one after the other."""
    out = bytearray()
    for path, data in [*files.items(), ("TRAILER!!!", b"")]:
        name = path.encode() + b"\0"
        fields = [0, 0o100755, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return initramfs + bytes(-len(initramfs) % 4) + bytes(out)


def _wanted(path: str) -> bool:
    """Documentation and translations stay out; Debian's node loads parts of itself from /usr/share/nodejs."""
    return not path.startswith("usr/share/") or path.startswith("usr/share/nodejs/")


class Image:
    def __init__(self, packages: list[str]):
        self._nodes = {name: Node(0o777, link=f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")}
        self._offered: dict[str, Node] = {}
        for package in fetch(packages):
            self._offered.update(contents(package, _wanted))

    def add(self, *paths: str) -> None:
        """Files of the packages, with the targets of links and every library they load."""
        for path in paths:
            real = merged(path)
            if real in self._nodes:
                continue
            if real not in self._offered:
                sys.exit(f"none of the image's packages has /{real}: add the one that does")
            node = self._nodes[real] = self._offered[real]
            if node.link is not None:
                self.add(posixpath.normpath(posixpath.join("/", posixpath.dirname(real), node.link)).lstrip("/"))
            for name in needed_libraries(node.data or b""):
                self.add(name if "/" in name else self._library(name, path))

    def add_tree(self, prefix: str) -> None:
        self.add(*[path for path in self._offered if path.startswith(prefix + "/")])

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._nodes[merged(path)] = Node(mode, data=data)
        for name in needed_libraries(data):
            self.add(name if "/" in name else self._library(name, path))

    def link(self, path: str, target: str) -> None:
        self._nodes.setdefault(merged(path), Node(0o777, link=target))

    def folder(self, path: str, mode: int = 0o755) -> None:
        self._nodes[path] = Node(mode)

    def _library(self, name: str, user: str) -> str:
        for folder in LIBRARY_PATH:
            if f"{folder}/{name}" in self._offered:
                return f"{folder}/{name}"
        sys.exit(f"/{user} needs {name}, and none of the image's packages has it")

    def _sorted(self) -> list[tuple[str, Node]]:
        nodes = dict(self._nodes)
        for path in self._nodes:
            while path := posixpath.dirname(path):
                nodes.setdefault(path, Node(0o755))
        return sorted(nodes.items())

    def unpack(self, folder: Path) -> None:
        """As a folder that the host can chroot into."""
        for path, node in self._sorted():
            target = folder / path
            if node.link is not None:
                target.symlink_to(node.link)
            elif node.data is None:
                target.mkdir(exist_ok=True)
                target.chmod(node.mode)
            else:
                target.write_bytes(node.data)
                target.chmod(node.mode)

    def cpio(self) -> bytes:
        """The "newc" archive of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst."""
        out = bytearray()

        def entry(inode: int, path: str, mode: int, data: bytes, device=(0, 0)) -> None:
            name = path.encode() + b"\0"
            fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0]
            out.extend(b"070701" + b"".join(b"%08X" % field for field in fields) + name)
            out.extend(b"\0" * (-len(out) % 4) + data)
            out.extend(b"\0" * (-len(out) % 4))

        inode = 0
        for inode, (path, node) in enumerate(self._sorted(), 1):
            if node.link is not None:
                entry(inode, path, 0o120777, node.link.encode())
            elif node.data is None:
                entry(inode, path, 0o040000 | node.mode, b"")
            else:
                entry(inode, path, 0o100000 | node.mode, node.data)
        # The kernel opens /dev/console before /init can mount anything.
        entry(inode + 1, "dev", 0o040755, b"")
        entry(inode + 2, "dev/console", 0o020600, b"", device=(5, 1))
        entry(0, "TRAILER!!!", 0, b"")
        return bytes(out)

    def initramfs(self) -> bytes:
        """Compressed with zstd, the fastest to unpack of what Debian's kernels take. One thread: same bytes always."""
        packed = subprocess.run(["zstd", "-q", "-12", "--single-thread", "-c"], input=self.cpio(),
                                stdout=subprocess.PIPE, check=True)
        return packed.stdout
