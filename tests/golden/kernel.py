"""The kernel of a golden Linux boot: exactly the one that was recorded, whatever Debian publishes today.

A kernel is named by its Debian package, that package's version and SHA-256, and the SHA-256 of the kernel in it. It
is looked for in the cache, then with apt, which has it as long as Debian's mirrors do, and then in Debian's archive
of everything that it ever published, snapshot.debian.org, which is asked for the package's SHA-1.
"""
import hashlib
import posixpath
import shutil
import urllib.error
import urllib.request

import golden  # noqa: F401: finds tools/
from cache import cache_dir, locked, put
from debian import Package, contents, download_exactly

SNAPSHOT = "https://snapshot.debian.org/file/"
PATIENCE = 60  # seconds for each answer of a server


class NotToBeHad(Exception):
    """Why the kernel is nowhere."""


def identity(package, sha1):
    """What FOLDER/NAME.kernel says of the kernel in a package of the cache."""
    (path, node), = contents(package, lambda path: path.startswith("boot/vmlinuz-")).items()
    return {"package": package.name, "version": package.version, "package_sha256": package.sha256,
            "package_sha1": sha1, "file": posixpath.basename(path), "sha256": hashlib.sha256(node.data).hexdigest()}


def from_snapshot(package, sha1):
    """Stores the package where the cache has packages; raises OSError when the archive does not give it."""
    whole = package.path.with_suffix(".new")
    with urllib.request.urlopen(SNAPSHOT + sha1, timeout=PATIENCE) as answer, open(whole, "wb") as out:
        shutil.copyfileobj(answer, out)
    if hashlib.sha256(whole.read_bytes()).hexdigest() != package.sha256:
        whole.unlink()
        raise OSError(f"{SNAPSHOT}{sha1} is not the package")
    whole.rename(package.path)


def find(wanted):
    """The path of the kernel that `wanted` describes, in the cache; raises NotToBeHad."""
    name = f"{wanted['file']}-{wanted['sha256'][:16]}"
    cached = cache_dir("guest") / name
    if cached.exists() and hashlib.sha256(cached.read_bytes()).hexdigest() == wanted["sha256"]:
        return cached
    package = Package(wanted["package"], wanted["version"], wanted["package_sha256"], "")
    with locked():
        if not package.path.exists() and not download_exactly(package):
            try:
                from_snapshot(package, wanted["package_sha1"])
            except (OSError, urllib.error.URLError) as error:
                raise NotToBeHad(f"{package.name} {package.version} is not in the cache, apt has it no more, and "
                                 f"{SNAPSHOT}{wanted['package_sha1']}: {error}") from error
        node, = contents(package, lambda path: posixpath.basename(path) == wanted["file"]).values()
        if hashlib.sha256(node.data).hexdigest() != wanted["sha256"]:
            raise NotToBeHad(f"{package.path} holds another kernel")
        return put("guest", wanted["file"], "", node.data)
