#!/usr/bin/env python3
"""What time travel costs: recording with and without checkpoints, their size, and how long seeks take.

The demo guest does the same work in each recording. Recordings with and without checkpoints take turns; times are the
host's, from the first command typed to the last one's end.
"""

import argparse
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_guest

sys.path.insert(0, str(bench_guest.ROOT / "tools"))
from guest import demo_guest  # noqa: E402

PROMPT = b"demo# "
TIMEOUT = 900
# About a second of mixed work: files, processes, pipes, memory, arithmetic in a shell.
WORK = ("ls -lR /bin /proc/self >/dev/null; relay 300 >/dev/null; dd if=/dev/zero of=/tmp/x bs=1M count=60 2>/dev/null; "
        "cksum /tmp/x; rm /tmp/x; i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done; ")


class Recorder:
    def __init__(self, deja: Path, guest: tuple[str, str], recording: Path, *options: str):
        kernel, initrd = guest
        self.output = b""
        self.process = subprocess.Popen(
            [str(deja), "record", "-o", str(recording.with_suffix("")), "-m", "512M", "--kernel", kernel, "--initrd", initrd,
             "--append", "console=ttyS0 quiet", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def expect(self, pattern: bytes) -> None:
        deadline = time.monotonic() + TIMEOUT
        while pattern not in self.output:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                sys.exit(f"bench: no {pattern!r} from the guest within {TIMEOUT} s")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                sys.exit(f"bench: the recorder ended: {self.process.stderr.read().decode(errors='replace')}")
            self.output += data

    def run(self, command: str) -> float:
        """Seconds from typing it to its end."""
        began = time.monotonic()
        self.output = b""
        self.process.stdin.write(f"{command} echo en''ded\n".encode())
        self.process.stdin.flush()
        self.expect(b"\nended")
        return time.monotonic() - began

    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time of the vCPUs' thread, and of the one that writes checkpoints."""
        seconds = {True: 0.0, False: 0.0}
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            seconds[int(task.name) == self.process.pid] += int((task / "schedstat").read_text().split()[0]) / 1e9
        return seconds[True], seconds[False]

    def finish(self) -> str:
        self.process.stdin.write(b"poweroff -f\n")
        self.process.stdin.flush()
        return self.process.communicate(timeout=TIMEOUT)[1].decode(errors="replace")


def record(options: argparse.Namespace, guest: tuple[str, str], recording: Path, *extra: str) -> tuple[float, float, float]:
    """Seconds that the work takes, and of CPU time by the two threads."""
    shutil.rmtree(recording, ignore_errors=True)
    recorder = Recorder(options.deja, guest, recording, *extra)
    recorder.expect(PROMPT)
    before = recorder.cpu_seconds()
    seconds = recorder.run(f"n=0; while [ $n -lt {options.repeat} ]; do n=$((n+1)); {WORK} done;")
    vcpus, writer = (now - then for now, then in zip(recorder.cpu_seconds(), before))
    recorder.finish()
    return seconds, vcpus, writer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    build = bench_guest.ROOT / "build"
    parser.add_argument("--travel", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--deja", type=Path, default=build / "deja")
    parser.add_argument("--random-seeks", type=Path, default=build / "tests" / "seek" / "random_seeks")
    parser.add_argument("--repeat", type=int, default=10, help="how often the work of about a second is done [10]")
    parser.add_argument("--rounds", type=int, default=3, help="recordings of each kind [3]")
    parser.add_argument("--seeks", type=int, default=200)
    options = parser.parse_args()
    made = demo_guest("cloud-amd64", refresh=False)
    guest = made["kernel"], made["initrd"]
    with tempfile.TemporaryDirectory(prefix="deja-bench-") as work:
        with_them, without = Path(work) / "with.deja", Path(work) / "without.deja"
        costs: dict[str, list[tuple[float, float, float]]] = {"off": [], "default": []}
        for _ in range(options.rounds):
            costs["off"].append(record(options, guest, without, "--checkpoint-every", "off"))
            costs["default"].append(record(options, guest, with_them))
        off, off_vcpus, _ = map(statistics.median, zip(*costs["off"]))
        default, vcpus, writer = map(statistics.median, zip(*costs["default"]))
        size = (with_them / "checkpoints.dat").stat().st_size
        info = subprocess.run([str(options.deja), "replay", "--to", "end", "--digest", str(with_them)], capture_output=True,
                              text=True, check=True).stdout
        steps = int(re.match(r"step (\d+)", info)[1])
        print(f"recording {steps:,} steps, median of {options.rounds}: without checkpoints {off:.2f} s, with {default:.2f} s "
              f"({(default / off - 1) * 100:+.1f} %)")
        # What a host that is busy otherwise disturbs less.
        print(f"CPU time: of the vCPU's thread {off_vcpus:.2f} s and {vcpus:.2f} s ({(vcpus / off_vcpus - 1) * 100:+.1f} %), "
              f"of the thread that writes checkpoints {writer:.2f} s ({writer / off_vcpus * 100:.1f} %)")
        print(f"checkpoints: {size / 2**20:.1f} MiB, {size / 2**20 / default * 60:.0f} MiB per minute of recording")
        sys.stdout.flush()
        sys.exit(subprocess.run([str(options.random_seeks), str(with_them), str(options.seeks)], check=False).returncode)


if __name__ == "__main__":
    main()
