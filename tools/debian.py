"""Files out of Debian packages: fetched with apt (which checks their signatures), never installed."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cache import cache_dir, say

UNSANDBOXED = ["-o", "APT::Sandbox::User=root"]  # the _apt user cannot write below a home directory


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    sha256: str
    depends: str

    @property
    def path(self) -> Path:
        return cache_dir("debs") / f"{self.name}_{self.version.replace(':', '%3a')}_{self.sha256[:16]}.deb"


def _apt_update() -> None:
    say("guest: apt-get update")
    command = ["apt-get", "update", "-qq"]
    if os.geteuid() != 0:
        command.insert(0, "sudo")
    subprocess.run(command, check=True, stdout=sys.stderr)


def _show(names: list[str]) -> dict[str, Package]:
    shown = subprocess.run(["apt-cache", "show", *names], capture_output=True, text=True).stdout
    packages = {}
    for record in shown.split("\n\n"):
        field = dict(re.findall(r"^([\w-]+): (.*)$", record, re.M))
        # The newest comes first; one that was installed from elsewhere has no hash and cannot be fetched.
        if "SHA256" in field and field["Package"] not in packages:
            packages[field["Package"]] = Package(field["Package"], field["Version"], field["SHA256"],
                                                 field.get("Depends", ""))
    return packages


def resolve(names: list[str]) -> list[Package]:
    """The newest version of each package that apt can fetch now."""
    packages = _show(names)
    if not set(names) <= set(packages):
        _apt_update()
        packages = _show(names)
    missing = sorted(set(names) - set(packages))
    if missing:
        sys.exit(f"apt knows no package named {', '.join(missing)}: are the Debian 12 sources configured?")
    return [packages[name] for name in names]


def _download(packages: list[Package]) -> bool:
    with tempfile.TemporaryDirectory(dir=cache_dir("debs")) as folder:
        command = ["apt-get", "download", "-qq", *UNSANDBOXED, *[f"{p.name}={p.version}" for p in packages]]
        if subprocess.run(command, cwd=folder, stdout=sys.stderr).returncode != 0:
            return False
        arrived = {hashlib.sha256(deb.read_bytes()).hexdigest(): deb for deb in Path(folder).glob("*.deb")}
        for package in packages:
            if package.sha256 not in arrived:
                return False
            shutil.move(arrived[package.sha256], package.path)
    return True


def download_exactly(package: Package) -> bool:
    """Downloads this version of a package, be it the newest or not; False: Debian's mirrors have it no more."""
    if _download([package]):
        return True
    _apt_update()
    return _download([package])


def fetch(names: list[str]) -> list[Package]:
    """Downloads what is not in the cache yet."""
    packages = resolve(names)
    missing = [package for package in packages if not package.path.exists()]
    if missing:
        say(f"guest: fetching {len(missing)} Debian packages")
        if not _download(missing):
            _apt_update()  # the archive drops old versions, so stale lists name files that are gone
            packages = resolve(names)
            missing = [package for package in packages if not package.path.exists()]
            if missing and not _download(missing):
                sys.exit("apt-get download failed (its message is above): check the network and the apt sources")
    return packages


def concrete_kernel(meta: str) -> str:
    """linux-image-cloud-amd64 is an empty package that depends on the kernel of the day."""
    (package,) = resolve([meta])
    match = re.search(r"\blinux-image-\d[\w.+-]*", package.depends)
    if not match:
        sys.exit(f"{meta} {package.version} depends on no kernel package")
    return match.group(0)


@dataclass
class Node:
    """A file of an image: a symbolic link if `link` is set, a folder if `data` is None, else a plain file."""
    mode: int
    data: bytes | None = None
    link: str | None = None


def contents(package: Package, wanted: Callable[[str], bool]) -> dict[str, Node]:
    """The package's files by path without leading slash, in the merged-/usr layout of Debian 12."""
    unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package.path], stdout=subprocess.PIPE)
    nodes = {}
    with tarfile.open(fileobj=unpack.stdout, mode="r|") as tar:
        for member in tar:
            path = merged(os.path.normpath(member.name).lstrip("./"))
            if not wanted(path):
                continue
            if member.issym():
                nodes[path] = Node(0o777, link=member.linkname)
            elif member.islnk():
                nodes[path] = nodes[merged(os.path.normpath(member.linkname).lstrip("./"))]
            elif member.isfile():
                nodes[path] = Node(member.mode & 0o755, data=tar.extractfile(member).read())
    if unpack.wait() != 0:
        package.path.unlink()
        sys.exit(f"dpkg-deb could not unpack {package.path}; it was removed, run the command again")
    return nodes


def merged(path: str) -> str:
    top, slash, _ = path.partition("/")
    return "usr/" + path if slash and top in ("bin", "sbin", "lib", "lib64") else path
