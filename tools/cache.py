"""Where everything that is fetched or built outside the checkout lives, and how it gets there whole."""

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cache_dir(*parts: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = Path(base, "dejavm", *parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def say(text: str) -> None:
    """Progress goes to stderr: stdout belongs to the lines that scripts read."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked():
    """One builder at a time; a second one waits and then finds the work done."""
    with open(cache_dir() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_whole(path: Path, data: bytes) -> Path:
    """Writes the file so that no reader ever sees a part of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def put(folder: str, stem: str, suffix: str, data: bytes) -> Path:
    """Stores data under a name that carries its hash, so that a path stands for one content for ever."""
    digest = hashlib.sha256(data).hexdigest()[:16]
    path = cache_dir(folder) / f"{stem}-{digest}{suffix}"
    return path if path.exists() else write_whole(path, data)


class Recipe:
    """What was made from which sources: a changed source means a new key, so a stale result is never used."""

    def __init__(self, name: str, sources: list[Path], options: list[str]):
        digest = hashlib.sha256("\0".join(options).encode())
        for source in sorted(sources):
            digest.update(f"\0{source.relative_to(ROOT)}\0".encode() + source.read_bytes())
        self._stamp = cache_dir("recipes") / f"{name}-{digest.hexdigest()[:16]}.json"

    def made(self) -> dict[str, str] | None:
        try:
            paths = json.loads(self._stamp.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return paths if all(os.path.exists(path) for path in paths.values()) else None

    def remember(self, paths: dict[str, Path]) -> dict[str, str]:
        text = {name: str(path) for name, path in paths.items()}
        write_whole(self._stamp, json.dumps(text, indent=1).encode())
        return text
