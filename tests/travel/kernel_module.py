"""Kernel modules for the demo guest's kernel, built against Debian's headers package of the same version."""
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from debian import fetch  # noqa: E402 (tools/ is not a package)


def build_module(source, kernel, folder):
    """Compiles `source` (a .c file) for the kernel in the file `kernel`; the path of the .ko, in `folder`."""
    release = re.search(r"vmlinuz-(\d+\.\d+)(\.[\w.]+-\d+)-([\w-]+?)-[0-9a-f]{16}$", Path(kernel).name)
    series, rest, flavour = release.groups()
    tree = folder / "headers"
    for package in fetch([f"linux-headers-{series}{rest}-{flavour}", f"linux-headers-{series}{rest}-common",
                          f"linux-kbuild-{series}"]):
        subprocess.run(["dpkg-deb", "-x", package.path, tree], check=True)
    headers = tree / f"usr/src/linux-headers-{series}{rest}-{flavour}"
    makefile = headers / "Makefile"  # names the common part by its installed path
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{tree}/usr/src/"))
    work = folder / "module"
    work.mkdir()
    (work / source.name).write_text(source.read_text())
    (work / "Makefile").write_text(f"obj-m := {source.stem}.o\n")
    done = subprocess.run(["make", "-C", headers, f"M={work}", "modules"], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)
    return work / f"{source.stem}.ko"
