#!/usr/bin/env python3
"""The demo: a Linux guest is recorded with someone at its keyboard, replayed, and shown to be the same to the last bit."""

import argparse
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROMPT = b"demo# "
TYPED = [
    "relay 200",
    "head -c 8 /dev/urandom | od -An -tx1",
    "for i in 1 2 3; do (seq $i 3000 | sort -rn | sha256sum) & done; wait",
    "cat /proc/interrupts | head -5; date",
    "poweroff -f",
]
CHAOS_SEED = "2006"
TIMEOUT = 240  # seconds for one step


def heading(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def fail(step: str, detail: str) -> None:
    sys.exit(f"\ndemo: {step} failed.\n{detail}")


class Echo:
    """Prints a console's output line by line behind a bar, so that it is told apart from our own words."""

    def __init__(self):
        self._rest = b""

    def write(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            print("  |", line.decode(errors="replace").rstrip("\r"))
        sys.stdout.flush()

    def close(self) -> None:
        if self._rest:
            self.write(b"\n")


def record(command: list[str], messages: Path) -> bytes:
    """Runs the recorder with pipes, types the next line whenever the prompt comes, and returns the console's output."""
    echo, output, seen, to_type = Echo(), b"", 0, list(TYPED)
    deadline = time.monotonic() + TIMEOUT
    with open(messages, "wb") as errors:
        recorder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        while True:
            if not select.select([recorder.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                recorder.kill()
                fail("recording", f"no end after {TIMEOUT} s; {messages} has the recorder's messages")
            data = os.read(recorder.stdout.fileno(), 65536)
            if not data:
                break
            output += data
            echo.write(data)
            if to_type and (found := output.find(PROMPT, seen)) >= 0:
                seen = found + len(PROMPT)
                recorder.stdin.write(to_type.pop(0).encode() + b"\n")
                recorder.stdin.flush()
        echo.close()
        if recorder.wait() != 0 or to_type:
            fail("recording", f"status {recorder.returncode}, {len(to_type)} lines not typed\n{messages.read_text()}")
    return output


def run(step: str, command: list[str]) -> tuple[bytes, str, float]:
    """Console output, messages, seconds."""
    began = time.monotonic()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        fail(step, f"no end after {TIMEOUT} s: {' '.join(command)}")
    messages = done.stderr.decode(errors="replace")
    if done.returncode != 0:
        fail(step, f"$ {' '.join(command)}\n{done.stdout.decode(errors='replace')[-3000:]}{messages}"
                   f"(exit status {done.returncode})")
    return done.stdout, messages, time.monotonic() - began


def console(output: bytes) -> bytes:
    """A console's output without the program's own closing line."""
    return re.sub(rb"\r?\n?replayed [\d,]+ instructions[^\n]*\n?\s*\Z", b"", output).rstrip()


def random_bytes(output: bytes) -> str:
    found = re.search(rb"od -An -tx1\r?\n((?: [0-9a-f]{2}){8})", output)
    return found.group(1).decode().strip() if found else "?"


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    parser.add_argument("--deja", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--kernel", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--initrd", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    deja = str(options.deja)
    recording = options.deja.parent / "demo.deja"
    shutil.rmtree(recording, ignore_errors=True)

    heading("1. Record: Debian's own Linux kernel boots in DejaVM, and a script types at its serial console")
    command = [deja, "record", "-o", str(recording.with_suffix("")), "-m", "512M", "--kernel", options.kernel,
               "--initrd", options.initrd, "--append", "console=ttyS0"]
    print("$", " ".join(command))
    recorded = record(command, options.deja.parent / "demo-record.log")
    info = json.loads(run("info", [deja, "info", "--json", str(recording)])[0])
    virtual, host = info["virtual_ns"] / 1e9, info["host_ns"] / 1e9
    print(f"\nThe guest executed {info['instructions']:,} instructions in {host:.1f} s ({virtual:.1f} s by its own clock).")
    print(f"What came from outside, and was therefore logged, takes {info['log_bytes']:,} bytes: the keys typed, the date, "
          f"a seed. Nothing else was.\nIt ended with: {info['end']}.")

    heading("2. Replay: the same machine again, from that log alone; nobody types")
    print(f"$ {deja} replay {recording}")
    replayed, messages, seconds = run("replay", [deja, "replay", str(recording)])
    same = console(recorded) == console(replayed)
    print("\n".join(f"  | {line}" for line in console(replayed).decode(errors="replace").splitlines()[-4:]))
    closing = [line for line in (replayed.decode(errors="replace") + messages).splitlines() if line.startswith("replayed")]
    print(closing[-1] if closing else f"replayed in {seconds:.1f} s")
    print(f"Console output of {len(console(recorded)):,} bytes: {'the same, byte for byte' if same else 'DIFFERENT'}.")
    print(f"The random bytes that the guest's kernel drew: {random_bytes(recorded)} when recorded, "
          f"{random_bytes(replayed)} when replayed.")

    heading("3. Verify: registers, memory and devices against the digests taken while recording")
    print(f"$ {deja} verify {recording}")
    verdict = run("verify", [deja, "verify", str(recording)])[0].decode().strip().splitlines()[-1]
    print(f"  {verdict}")

    heading("4. The same under chaos: another, hostile engine, which flushes caches, cuts blocks and poisons registers")
    command = [deja, "replay", "--quiet", "--chaos-engine", CHAOS_SEED, str(recording)]
    print("$", " ".join(command))
    output, messages, seconds = run("replay in chaos mode", command)
    closing = (output.decode(errors="replace") + messages).strip().splitlines()
    print(f"  {closing[-1] if closing else f'identical, {seconds:.1f} s'}")

    if not same or not verdict.startswith("identical"):
        fail("the comparison", f"the replay is not what was recorded: {recording}")
    heading("What happened")
    print(f"""  A whole computer (kernel, processes, interrupts) ran once and was reproduced three times:
  {info['steps']:,} steps, checked at {info['digests']} digests of the whole machine, identical every time.
  Not its outputs were recorded but what it could not know by itself: {info['log_bytes']:,} bytes.

  Yours now:   {deja} dump {recording}   every logged event
               {deja} replay --realtime {recording}   watch it at its own pace
               ./dev run                              the same guest with you at its keyboard""")


if __name__ == "__main__":
    main()
