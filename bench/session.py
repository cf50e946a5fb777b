"""One run of one engine: its console is read as it comes, and the marks on it are stamped with the host's clock.

Time is taken here and not in the guest, where it would be virtual.
"""

import os
import re
import selectors
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

START = re.compile(rb"BENCH-START ([\w-]+)\r?\n")
END = re.compile(rb"BENCH-END ([\w-]+) checksum=(\w*)\r?\n")
PEAK = re.compile(rb"BENCH-PEAK (\d+)")


@dataclass
class Result:
    seconds: float
    cpu: float | None  # seconds of the process's threads, which other work on the host disturbs less; None: not known
    checksum: str | None
    log_bytes: int | None
    peak_rss: int  # bytes


@dataclass
class Session:
    """What a run gave: results by workload, the last of its console, and how it ended."""
    results: dict[str, Result] = field(default_factory=dict)
    tail: bytes = b""
    trouble: str | None = None


def size_of(file: Path | None) -> int | None:
    if file is None:
        return None
    return file.stat().st_size if file.exists() else 0


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process that are alive, from proc(5): schedstat, in nanoseconds."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(thread.read_text().split()[0])
        except (OSError, IndexError):
            pass  # it has just ended
    return total / 1e9


class PeakMemory:
    """The peak resident size of a process between two moments, from proc(5): clear_refs and VmHWM."""

    def __init__(self, pid: int):
        self._pid = pid

    def reset(self) -> None:
        try:
            Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        except OSError:
            pass  # then the peak is that of the whole run so far, which is an upper bound

    def read(self) -> int:
        try:
            status = Path(f"/proc/{self._pid}/status").read_text()
        except OSError:
            return 0
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found.group(1)) * 1024 if found else 0


def run(command: list[str], expected: list[str], log: Path | None, timeout: float,
        dialogue: list[tuple[bytes, bytes]] | None = None, types: bool = False) -> Session:
    """Runs until the program ends. With a `dialogue` of prompts and answers, the time to its first prompt is the
    result, and if `types`, the harness answers, as a user would at the keyboard; the last answer switches it off."""
    session = Session()
    started_at = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.PIPE if types else subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    memory = PeakMemory(process.pid)
    running: tuple[str, float, float, int | None] | None = None
    pending, boot, dialogue = b"", expected[0] if dialogue else None, list(dialogue or [])
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, started_at + timeout - time.monotonic())):
                session.trouble = f"no end after {timeout:.0f} s"
                process.kill()
                break
            arrived = os.read(process.stdout.fileno(), 65536)
            now = time.monotonic()
            if not arrived:
                break
            pending += arrived
            session.tail = (session.tail + arrived)[-2000:]
            if dialogue and dialogue[0][0] in pending:
                session.results.setdefault(boot, Result(now - started_at, cpu_seconds(process.pid), None, None,
                                                        memory.read()))
                pending, (_, answer) = b"", dialogue.pop(0)
                if types:
                    process.stdin.write(answer)
                    process.stdin.flush()
            while mark := START.search(pending) if running is None else END.search(pending):
                pending = pending[mark.end():]
                name = mark.group(1).decode()
                if running is None:
                    memory.reset()
                    running = (name, now, cpu_seconds(process.pid), size_of(log))
                elif running[0] == name:
                    growth = None if log is None else size_of(log) - running[3]
                    cpu = cpu_seconds(process.pid) - running[2]
                    session.results[name] = Result(now - running[1], cpu, mark.group(2).decode(), growth, memory.read())
                    running = None
            pending = pending[-4096:]
    process.stdout.close()
    if process.stdin:
        process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = PEAK.search(session.tail)
    for result in session.results.values():
        if peak:
            # busybox 1.35 takes ru_maxrss for pages and prints four times the KiB.
            result.peak_rss = int(peak.group(1)) * 1024 // 4
        result.peak_rss = result.peak_rss or usage.ru_maxrss * 1024
    if boot in session.results:
        session.results[boot].log_bytes = size_of(log)
    missing = [name for name in expected if name not in session.results or session.results[name].checksum == ""]
    if session.trouble is None and process.returncode != 0:
        session.trouble = f"ended with status {process.returncode}"
    if session.trouble is None and missing:
        session.trouble = f"no result of {', '.join(missing)}"
    return session

