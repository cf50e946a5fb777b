"""The bench's guests: workloads and Debian's own programs in one root file system, as an initramfs for the virtual
machines and as a folder for the host to chroot into, so that the same binaries run everywhere. The programs that
compile at run time are in a guest of their own: with their libraries they would slow down the others' boot; and so are the
drivers, for what needs a disk, a network card or several vCPUs, of which the host has nothing to compare with."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from cache import Recipe, cache_dir, locked, put, say  # noqa: E402
from guest import add_busybox, add_drivers, kernel  # noqa: E402
from image import Image  # noqa: E402

import generate  # noqa: E402

PACKAGES = """busybox-static libc6 libgcc-s1 libstdc++6 python3-minimal python3.11-minimal libpython3.11-minimal libexpat1
    zlib1g cpp-12 libisl23 libmpc3 libmpfr6 libgmp10 libzstd1 sqlite3 libsqlite3-0 libreadline8 libtinfo6 7zip openssl
    libssl3""".split()
PROGRAMS = "usr/bin/python3.11 usr/lib/gcc/x86_64-linux-gnu/12/cc1 usr/bin/sqlite3 usr/bin/7zz usr/bin/openssl".split()
APPLETS = "sh mount cat echo md5sum poweroff tr".split()
JIT_PACKAGES = """busybox-static libc6 libgcc-s1 libstdc++6 zlib1g nodejs libnode108 libuv1 libc-ares2 libnghttp2-14 libbrotli1
    libssl3 libicu72 node-acorn node-cjs-module-lexer node-undici luajit libluajit-5.1-2""".split()
JIT_PROGRAMS = "usr/bin/node usr/bin/luajit".split()
DEVICE_APPLETS = "dd head wc nc wget ip udhcpc insmod sha256sum".split()
FLAVOUR = "cloud-amd64"
WORKLOADS = ROOT / "bench" / "workloads"
# What decides how `deja image` makes an image.
DEBIAN_SOURCES = [ROOT / "src" / "cli" / name for name in ("options/image_script.h", "verbs/image.cc")]


def _compiled(source: Path) -> bytes:
    """For the baseline x86-64, so that no binary depends on the machine it was made on."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, source.stem)
        subprocess.run(["gcc-12", "-O2", "-march=x86-64", "-o", out, source, "-lm"], check=True)
        return out.read_bytes()


def _with_scripts(packages: list[str], programs: list[str]) -> Image:
    image = Image(packages)
    image.add(*programs)
    add_busybox(image, APPLETS)
    for source in sorted(WORKLOADS.iterdir()):
        if source.name == "init":
            image.write("init", source.read_bytes(), 0o755)
        elif source.suffix not in (".c", ".h"):
            image.write(f"bench/{source.name}", source.read_bytes(), 0o755)
    return image


def _make_bench() -> Image:
    image = _with_scripts(PACKAGES, PROGRAMS)
    image.add_tree("usr/lib/python3.11")
    image.link("usr/bin/python3", "python3.11")
    image.write("etc/openssl.cnf", b"")
    image.link("usr/lib/ssl/openssl.cnf", "/etc/openssl.cnf")
    for source in sorted(WORKLOADS.glob("*.c")):
        image.write(f"bench/{source.stem}", _compiled(source), 0o755)
    image.write("bench/data", generate.text(2 << 20))
    image.write("bench/unit.c", generate.c_source(12))
    return image


def _make_jit() -> Image:
    image = _with_scripts(JIT_PACKAGES, JIT_PROGRAMS)
    # What Debian's libnode loads at its start.
    image.add(*(f"usr/share/nodejs/{name}.js" for name in (
        "acorn/dist/acorn", "acorn-walk/dist/walk", "cjs-module-lexer/dist/lexer", "cjs-module-lexer/lexer",
        "undici/undici-fetch")))
    return image


def _make_devices() -> Image:
    image = _with_scripts(["busybox-static"], [])
    add_busybox(image, DEVICE_APPLETS)
    add_drivers(image, FLAVOUR)
    return image


MAKERS = {"bench": ("python3, cc1, sqlite3, 7zz, openssl, and the workloads", _make_bench),
          "jit": ("nodejs and luajit", _make_jit),
          "devices": ("busybox and the kernel's drivers", _make_devices)}


def make_guest(kind: str) -> dict[str, str]:
    """{"kernel": PATH, "initrd": PATH, "root": FOLDER} of the guest of MAKERS."""
    content, make = MAKERS[kind]
    tools = [ROOT / "tools" / name for name in ("debian.py", "image.py", "guest.py")]
    own = [ROOT / "bench" / name for name in ("bench_guest.py", "generate.py")]
    recipe = Recipe(kind, [*WORKLOADS.iterdir(), *tools, *own], [])
    with locked():
        made = recipe.made()
        if made is None:
            say(f"bench: making the {kind} guest (Debian's {content})")
            image = make()
            initrd = put("guest", kind, ".cpio.zst", image.initramfs())
            root = cache_dir("roots") / initrd.name.removesuffix(".cpio.zst")
            if not root.exists():
                unfinished = Path(tempfile.mkdtemp(dir=root.parent, prefix=".new-"))
                unfinished.chmod(0o755)
                image.unpack(unfinished)
                shutil.move(unfinished, root)
            made = recipe.remember({"kernel": kernel(FLAVOUR), "initrd": initrd, "root": root})
    return made


def make_debian(deja: Path) -> dict[str, str]:
    """{"kernel": PATH, "initrd": PATH, "disk": PATH}: an image as `deja image` makes it, and what is started from it."""
    recipe = Recipe("debian", DEBIAN_SOURCES, [])
    with locked():
        made = recipe.made()
        if made is None:
            say("bench: making a Debian image (minutes)")
            disk = cache_dir("images") / "bench-debian.raw"
            disk.unlink(missing_ok=True)
            subprocess.run([deja, "image", "debian12", disk], check=True)
            made = recipe.remember({"disk": disk, **{name: put("guest", f"debian-{name}", "", _from_root(disk, path))
                                                     for name, path in (("kernel", "vmlinuz"), ("initrd", "initrd.img"))}})
    return made


def _from_root(disk: Path, name: str) -> bytes:
    """The file /boot/NAME-VERSION of the image's first partition."""
    with open(disk, "rb") as file:
        start = int.from_bytes(file.read(512)[454:458], "little") * 512

    def debugfs(command: str) -> bytes:
        return subprocess.run(["/sbin/debugfs", "-R", command, f"{disk}?offset={start}"], check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    (found,) = [field for field in debugfs("ls -p /boot").decode().split("/") if field.startswith(f"{name}-")]
    return debugfs(f"cat /boot/{found}")
