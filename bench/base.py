"""The executable that `--compare BASE` names: a file, or a revision of this repository, which is built once and kept."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_guest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from cache import cache_dir, say  # noqa: E402


def executable(name: str) -> Path:
    """Ends the program with what was wrong if there is none."""
    if os.path.isfile(name):
        if not os.access(name, os.X_OK):
            sys.exit(f"--compare: {name} is no executable")
        return Path(name).resolve()
    found = subprocess.run(["git", "-C", ROOT, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"],
                           capture_output=True, text=True)
    if found.returncode != 0:
        sys.exit(f"--compare: {name} is neither an executable nor a revision of this repository")
    return _built(name, found.stdout.strip())


def _built(name: str, revision: str) -> Path:
    folder = cache_dir("bases") / revision[:12]
    deja = folder / "deja"
    if deja.exists():
        return deja
    say(f"bench: building {name} ({revision[:12]}) to compare with (minutes)")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as work:
        source, build, log = Path(work, "source"), Path(work, "build"), folder.parent / f"{folder.name}.log"
        source.mkdir()
        archive = subprocess.Popen(["git", "-C", ROOT, "archive", revision], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", source], stdin=archive.stdout, check=True)
        if archive.wait() != 0:
            sys.exit(f"--compare: git cannot unpack {name}")
        with open(log, "w") as out:
            for command in (["cmake", "-S", source, "-B", build, "-G", "Ninja"], ["ninja", "-C", build, "deja"]):
                if subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode != 0:
                    sys.exit(f"--compare: {name} does not build; see {log}")
        folder.mkdir(exist_ok=True)
        (build / "deja").rename(deja)
    return deja
