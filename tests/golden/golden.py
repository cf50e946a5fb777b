"""What making golden recordings and checking them share: where they are, and the programs that are run on them."""
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tools"))

PACKED = ".dejavm"
STEPS = ".steps"          # the machine's digest at some steps, one a line
UNPACKED = ".deja"        # a recording without its kernel, which the package cache has
KERNEL_OF = ".kernel"     # which kernel that is, JSON
MADE = "made.json"        # on what host and by which deja the recordings of a folder were made
TIMEOUT = int(os.environ.get("DEJA_TIMEOUT", 300))


@dataclass(frozen=True)
class Programs:
    """Of a build."""
    deja: Path
    step_digests: Path
    guests: Path

    @staticmethod
    def of_build(build):
        build = Path(build).resolve()
        return Programs(build / "deja", build / "tests/seek/step_digests", build / "tests/guest")


def run(*command, **options):
    """The CompletedProcess of a command, with its output as text."""
    return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=TIMEOUT, **options)


def must(*command, **options):
    """The standard output of a command that works."""
    done = run(*command, **options)
    if done.returncode != 0:
        raise RuntimeError(f"$ {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def recordings():
    """All golden recordings, as paths without suffix: FOLDER/NAME."""
    return sorted(path.with_suffix("") for suffix in (PACKED, UNPACKED) for path in HERE.glob(f"v*/*{suffix}"))


def kernel_of(golden):
    """What its FOLDER/NAME.kernel says; None when the recording has its kernel in it."""
    path = golden.with_suffix(KERNEL_OF)
    return json.loads(path.read_text()) if path.exists() else None


def copy_with_kernel(golden, target, kernel):
    """The recording with its kernel, which git does not hold."""
    shutil.copytree(golden.with_suffix(UNPACKED), target)
    stored = target / "inputs" / f"sha256-{kernel_of(golden)['sha256']}"
    shutil.copyfile(kernel, stored)
