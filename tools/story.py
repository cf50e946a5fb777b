#!/usr/bin/env python3
"""Records the story that README begins with: a kernel that crashes, and the way back from the crash to its cause.

A shell, deja and gdb run in a terminal as they would for a person, and this script types. The guest is the demo guest
with the module tests/travel/list_scribbler.c. It takes two minutes, and makes three files, in docs/story/ unless told
otherwise:

  crash.cast   the terminal's output with its times, for asciinema (asciicast version 2)
  crash.svg    the same as an animation, which needs nothing but a browser
  crash.txt    the lines that stood in the terminal

Addresses and steps differ from run to run: what is typed comes when it comes. README quotes crash.txt, and
tests/tools/test_story.py compares them.
"""

import argparse
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from image import with_files
from svg_animation import render
from terminal import Terminal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/travel"))
from kernel_module import build_module  # noqa: E402 (a helper of the tests)

WIDTH, HEIGHT = 110, 30
LONGEST_PAUSE = 1.2  # seconds that a player waits at most
KEY_INTERVAL = 0.03  # seconds between two keys
READING_TIME = 1.0   # seconds from a prompt to the first key
TIMEOUT = 120        # seconds for one prompt
SHELL_MARK = "\x1b]133;A\x07"  # before each prompt of the shell, so that it is told from others; terminals hide it
SHELL_PROMPT = re.compile(re.escape(SHELL_MARK) + r"\$ $")
GUEST_PROMPT = re.compile(r"demo# $")
GDB_PROMPT = re.compile(r"\(gdb\) $")
SURE_PROMPT = re.compile(r"\(y or n\) $")
CORRUPTION = re.compile(r"list_add corruption\. prev->next should be next .*\(prev=([0-9a-f]+)\)")
HIDDEN_MODES = re.compile(r"\x1b\[\?[\d;]*[hl]")  # around prompts of readline


class Session:
    """A shell in a terminal of its own; every output is kept with its time."""

    def __init__(self, folder: Path):
        self.events: list[tuple[float, str]] = []
        self._bytes = b""
        self._folder = folder
        environment = {"PATH": f"{folder}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder / "work"), "LANG": "C.UTF-8",
                       "TERM": "xterm-256color", "PS1": f"{SHELL_MARK}$ "}
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(folder / "work")
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting"], environment)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self._began = time.monotonic()

    def close(self) -> None:
        os.close(self._terminal)
        os.kill(self._pid, signal.SIGHUP)
        os.waitpid(self._pid, 0)

    @property
    def output(self) -> str:
        return "".join(text for _, text in self.events)

    def _read(self, seconds: float) -> None:
        """Takes output for so long."""
        end = time.monotonic() + seconds
        while select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))[0]:
            self._bytes += os.read(self._terminal, 65536)
            try:
                text, self._bytes = self._bytes.decode(), b""
            except UnicodeDecodeError as error:  # ends within a character
                text, self._bytes = self._bytes[:error.start].decode(), self._bytes[error.start:]
            self.events.append((time.monotonic() - self._began, text.replace(f"{self._folder}/work", "~")))

    def wait_for(self, prompt: re.Pattern, since: int = 0) -> None:
        """Until output behind the first `since` characters ends with this prompt."""
        deadline = time.monotonic() + TIMEOUT
        while not prompt.search(HIDDEN_MODES.sub("", self.output[since:])):
            if time.monotonic() > deadline:
                sys.exit(f"story: no {prompt.pattern!r} after {TIMEOUT} s in\n{self.output[since:]}")
            self._read(0.05)

    def enter(self, line: str, prompt: re.Pattern) -> str:
        """Types a line and waits for the prompt behind what it brings; that."""
        self._read(READING_TIME)
        for key in line:
            os.write(self._terminal, key.encode())
            self._read(KEY_INTERVAL)
        since = len(self.output)
        os.write(self._terminal, b"\r")
        self.wait_for(prompt, since)
        return self.output[since:]


def play(session: Session) -> None:
    """The story."""
    session.wait_for(SHELL_PROMPT)
    session.enter('deja record -o crash --until-exit --kernel vmlinuz --initrd initrd.img '
                  '--append "console=ttyS0 quiet oops=panic"', GUEST_PROMPT)
    crash = session.enter("busybox insmod /list_scribbler.ko", SHELL_PROMPT)
    found = CORRUPTION.search(crash)
    if not found:
        sys.exit(f"story: the guest did not crash as it should:\n{crash}")
    address = found[1]
    session.enter("# Who put that there? Go back from the end.", SHELL_PROMPT)
    session.enter("deja debug --at end --symbols . crash", GDB_PROMPT)
    session.enter("symbols", GDB_PROMPT)
    session.enter(f"watch *(unsigned long *) 0x{address}", GDB_PROMPT)
    back = session.enter("reverse-continue", GDB_PROMPT)
    if "stamp_report" not in back:
        sys.exit(f"story: the way back did not lead to the cause:\n{back}")
    session.enter("backtrace 2", GDB_PROMPT)
    session.enter("print *(struct job *) report", GDB_PROMPT)
    session.enter("when", GDB_PROMPT)
    session.enter("quit", SURE_PROMPT)
    session.enter("y", SHELL_PROMPT)
    session.enter("# The same without gdb:", SHELL_PROMPT)
    session.enter(f"deja who-wrote crash {address}", SHELL_PROMPT)


def prepare(folder: Path, deja: Path, kernel: Path, initrd: Path) -> None:
    """The files that the shell finds."""
    work = folder / "work"
    for made in (work, folder / "bin"):
        made.mkdir()
    (work / ".gdbinit").write_text("set filename-display basename\n")
    (folder / "bin/deja").symlink_to(deja.resolve())
    module = build_module(ROOT / "tests/travel/list_scribbler.c", kernel, folder)
    shutil.copy(module, work)
    shutil.copy(ROOT / "tests/travel/list_scribbler.c", work)
    shutil.copy(kernel, work / "vmlinuz")
    (work / "initrd.img").write_bytes(with_files(initrd.read_bytes(), {"list_scribbler.ko": module.read_bytes()}))


def without_pauses(events: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """The same, with no time between two outputs longer than LONGEST_PAUSE."""
    shorter, last, now = [], 0.0, 0.0
    for at, text in events:
        now += min(at - last, LONGEST_PAUSE)
        last = at
        shorter.append((round(now, 3), text))
    return shorter


def write_files(events: list[tuple[float, str]], out: Path) -> None:
    events = [(at, text.replace(SHELL_MARK, "")) for at, text in events]
    out.mkdir(parents=True, exist_ok=True)
    title = "DejaVM: from a kernel's crash back to its cause"
    header = {"version": 2, "width": WIDTH, "height": HEIGHT, "idle_time_limit": LONGEST_PAUSE, "title": title}
    with open(out / "crash.cast", "w") as cast:
        for line in [header, *([round(at, 3), "o", text] for at, text in events)]:
            cast.write(json.dumps(line, ensure_ascii=False) + "\n")
    (out / "crash.svg").write_text(render(without_pauses(events), WIDTH, HEIGHT, title))
    terminal = Terminal(WIDTH, HEIGHT)
    terminal.feed("".join(text for _, text in events))
    lines = [terminal.text(row) for row in range(len(terminal.rows))]
    (out / "crash.txt").write_text("\n".join(lines).rstrip() + "\n")


def read_cast(path: Path) -> list[tuple[float, str]]:
    _, *events = map(json.loads, path.read_text().splitlines())
    return [(at, text) for at, _, text in events]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deja", type=Path, default=ROOT / "build/deja", help="the program [build/deja]")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/story", help="where the files go [docs/story]")
    parser.add_argument("--render", action="store_true", help="only draw crash.svg and crash.txt anew from crash.cast")
    options = parser.parse_args()
    if options.render:
        write_files(read_cast(options.out / "crash.cast"), options.out)
        return
    guest = subprocess.run([ROOT / "dev", "guest"], check=True, stdout=subprocess.PIPE, text=True).stdout
    kernel, initrd = (Path(re.search(rf"^{name}=(.*)$", guest, re.M)[1]) for name in ("kernel", "initrd"))
    with tempfile.TemporaryDirectory(prefix="deja-story-") as name:
        folder = Path(name)
        prepare(folder, options.deja, kernel, initrd)
        session = Session(folder)
        try:
            play(session)
        finally:
            session.close()
    write_files(session.events, options.out)


if __name__ == "__main__":
    main()
