"""Records random guests, and compares engines on what was recorded, until the time is up.

Each case is a machine, a workload and what is typed meanwhile, all drawn from one number. It is recorded, verified with
the default engine, with each optimisation off and under several chaos seeds; digests at single steps are compared
between engines; it is sought through at random, trimmed, and gone on with from its middle, and what comes of that is
verified too. What fails is kept, with the command that shows it again, and the exit status is 1.
"""

import argparse
import contextlib
import json
import os
import random
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soak_cases
from cache import say

EXAMPLES = """examples:
  ./dev soak --hours 2                    for two hours, from a new seed
  ./dev soak --steps 1e12 --jobs 1        until so many steps were recorded or replayed
  ./dev soak --seed 123 --cases 1         case 123 again, with the same machine and workload
  ./dev soak --guests metal --hours 0.1   only the bare-metal kernels of tests/guest
"""

SEEKS = 12
# How long a part of a recording the engines get, in seconds that the default engine takes for it: slow engines get
# less, so that each has its share of the time and the quick ones do most of the steps.
WINDOWS = {"no-inline-tlb": 0.4, "plainest": 0.3, "chaos": 1.2}
WINDOW_OF_OTHERS = 8.0
LEAST_WINDOW = 2_000_000  # steps


class Failure(Exception):
    """What a check found: text for people, and the command that shows it again."""

    def __init__(self, what: str, command: str):
        super().__init__(what)
        self.what, self.command = what, command


class Stopped(Exception):
    """Somebody wants an end; what fails from now on fails for that."""


class Totals:
    """Steps by what was done with them; for all threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.steps, self.runs, self.seconds = defaultdict(int), defaultdict(int), defaultdict(float)
        self.cases, self.failures, self.stopping = 0, [], False

    def add(self, mode: str, steps: int, seconds: float):
        with self._lock:
            self.steps[mode] += steps
            self.runs[mode] += 1
            self.seconds[mode] += seconds

    def all_steps(self) -> int:
        with self._lock:
            return sum(self.steps.values())

    def show(self, what: str):
        """The progress line, on a terminal."""
        if sys.stderr.isatty():
            text = f"{self.elapsed() / 60:.0f} min, {self.cases} cases, {self.all_steps():,} steps; {what}"
            print(f"\r\033[K{text[:shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)

    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def table(self) -> str:
        lines = [f"{'':30} {'runs':>8} {'steps':>20} {'million steps/s':>16}"]
        for mode in sorted(self.steps, key=lambda m: (m != "record", -self.steps[m])):
            speed = self.steps[mode] / max(self.seconds[mode], 1e-9) / 1e6
            lines.append(f"{mode:30} {self.runs[mode]:8,} {self.steps[mode]:20,} {speed:16,.0f}")
        lines.append(f"{'all':30} {sum(self.runs.values()):8,} {self.all_steps():20,}")
        return "\n".join(lines)


def shown(command: list) -> str:
    return shlex.join(map(str, command))


class Tools:
    def __init__(self, build: Path):
        self.deja = build / "deja"
        self.random_seeks = build / "tests/seek/random_seeks"
        self.step_digests = build / "tests/seek/step_digests"
        text = subprocess.run([self.deja, "verify", "--help"], capture_output=True, text=True, check=True).stdout
        # form.h's list, by way of the help.
        listed = re.search(r"--engine .*?list of: (.*?)max-insns", text, re.DOTALL)
        self.switches = re.findall(r"no-[a-z-]+[a-z]", re.sub(r"\s+", " ", listed[1]))


class Guest:
    """A recorder with its console at our hands. When its time is up it is asked to end, wherever it is."""

    def __init__(self, command: list, seconds: float):
        self.output, self._deadline = b"", time.monotonic() + seconds
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)

    def _read_until(self, deadline: float) -> bool:
        """Takes what comes; False: the time is up, or the guest has ended."""
        left = min(deadline, self._deadline) - time.monotonic()
        if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
            return False
        data = os.read(self.process.stdout.fileno(), 65536)
        self.output += data
        return bool(data)

    def wait_for(self, text: bytes) -> bool:
        while text not in self.output and self._read_until(self._deadline):
            pass
        return text in self.output

    def pass_time(self, seconds: float):
        ends = time.monotonic() + seconds
        while self._read_until(ends):
            pass

    def type(self, text: str):
        with contextlib.suppress(BrokenPipeError):  # it has ended; its status tells why
            self.process.stdin.write(text.encode())
            self.process.stdin.flush()

    def finish(self) -> int:
        while self._read_until(self._deadline):
            pass
        if self.process.poll() is None and time.monotonic() >= self._deadline:
            self.process.terminate()
        try:
            rest, _ = self.process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            rest, _ = self.process.communicate()
        self.output += rest
        return self.process.returncode


class CaseRun:
    def __init__(self, case: soak_cases.Case, tools: Tools, totals: Totals, folder: Path, record_seconds: float):
        self.case, self.tools, self.totals, self.folder = case, tools, totals, folder
        self.record_seconds = record_seconds
        self.rng = random.Random(case.seed ^ 0x5EED)
        self.modes = []

    def run(self):
        recording = self.folder / "run.deja"
        self.record(recording)
        first, last = self.range_of(recording)
        began = time.monotonic()
        self.check(recording, "verify")
        self.speed = (last - first) / (time.monotonic() - began)
        self.recording, self.windows = recording, {}
        self.compare_modes()
        self.compare_steps()
        self.seek()
        self.branch(first, last)

    # --- recording

    def record(self, recording: Path):
        case, deja = self.case, self.tools.deja
        options = list(case.options)
        if case.drive is not None:
            disk = self.folder / "disk.raw"
            disk.write_bytes(case.drive)
            options += ["--drive", f"file={disk},format=raw"]
        self.totals.show(f"case {case.seed}: record {case}")
        command = [deja, "record", "-o", recording.with_suffix(""), *options]
        began = time.monotonic()
        guest = Guest(command, self.record_seconds)
        try:
            status = self.play(guest)
        finally:
            guest.process.kill()
            guest.process.wait()
        if self.totals.stopping:
            raise Stopped
        (self.folder / "console.txt").write_bytes(guest.output)
        trouble = self.trouble_of(guest, status)
        if trouble or not recording.exists():
            raise Failure(f"the recorder ended with status {status}: {trouble or 'no recording'}", shown(command))
        first, last = self.range_of(recording)
        self.steps = last - first
        self.totals.add("record", self.steps, time.monotonic() - began)

    def play(self, guest: Guest) -> int:
        """Types the case's script, and what comes in between; returns the recorder's status."""
        case = self.case
        if case.script:
            if guest.wait_for(soak_cases.PROMPT):
                guest.type("".join(f"{line}\n" for line in case.script))
                for pause, text in case.typing:
                    guest.pass_time(pause)
                    guest.type(text)
                guest.type("echo soak''ed\n")
                guest.wait_for(b"soaked")
            end = {"kill": guest.process.kill, "term": guest.process.terminate}
            end.get(case.ending, lambda: guest.type("poweroff -f\n"))()
        return guest.finish()

    def trouble_of(self, guest: Guest, status: int) -> str | None:
        text = guest.output.decode(errors="replace")
        if "internal error" in text or "this is a bug in DejaVM" in text:
            return text[-2000:]
        if status < 0 and -status not in (9, 15):
            return f"signal {-status}\n{text[-2000:]}"
        # A bare-metal guest chooses its status; for Linux 1 means that deja has given up.
        if status == 1 and self.case.script:
            return text[-2000:]
        return None

    def range_of(self, recording: Path) -> tuple[int, int]:
        command = [self.tools.deja, "info", "--json", recording]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            raise Failure(done.stderr.strip(), shown(command))
        info = json.loads(done.stdout)
        return info["first_step"], info["steps"]

    # --- checking

    def call(self, mode: str, steps: int, command: list, **options) -> str:
        """Runs it; a Failure unless it ends well."""
        self.totals.show(f"case {self.case.seed}: {mode}")
        began = time.monotonic()
        done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", **options)
        if self.totals.stopping:
            raise Stopped
        self.totals.add(mode, steps, time.monotonic() - began)
        self.modes.append(mode)
        if done.returncode:
            raise Failure(f"{mode}: status {done.returncode}\n{done.stdout[-4000:]}", shown(command))
        return done.stdout

    def check(self, recording: Path, mode: str, *engine: str):
        first, last = self.range_of(recording)
        self.call(mode, last - first, [self.tools.deja, "verify", *engine, recording])

    def place_for(self, mode: str) -> Path:
        """The recording, or where that would take too long a window of it."""
        seconds = WINDOWS.get(mode, WINDOW_OF_OTHERS)
        if seconds not in self.windows:
            self.windows[seconds] = self.make_window(seconds)
        return self.windows[seconds]

    def make_window(self, seconds: float) -> Path:
        first, last = self.range_of(self.recording)
        length = max(LEAST_WINDOW, int(self.speed * seconds))
        if last - first <= length:
            return self.recording
        begin = self.rng.randrange(first, last - length)
        window = self.folder / f"window{len(self.windows)}.deja"
        self.call("trim", length, [self.tools.deja, "trim", self.recording, "--from", begin, "--to", begin + length,
                                   "-o", window.with_suffix("")])
        self.check(window, "verify of a window")
        return window

    def engines(self) -> list[tuple[str, list[str]]]:
        """All there are, by name: each optimisation off, all of them, some at once, chaos."""
        some = sorted(self.rng.sample(self.tools.switches, self.rng.randint(2, 6)))
        chosen = [(name, ["--engine", name]) for name in [*self.tools.switches, "max-insns=1"]]
        chosen.append((f"max-insns={self.rng.randint(2, 12)}", []))
        chosen[-1] = ("max-insns=N", ["--engine", chosen[-1][0]])
        chosen.append(("plainest", ["--engine", ",".join([*self.tools.switches, "max-insns=1"])]))
        chosen.append(("chaos", ["--engine", ",".join(some), "--chaos-engine", str(self.rng.randrange(10**6))]))
        chosen += [("chaos", ["--chaos-engine", str(self.rng.randrange(10**6))]) for _ in range(3)]
        return chosen

    def compare_modes(self):
        for mode, arguments in self.engines():
            self.check(self.place_for(mode), mode, *arguments)

    def compare_steps(self):
        """Digests at single steps, in the default engine and in three others."""
        for mode, arguments in self.rng.sample(self.engines(), 3):
            place = self.place_for(mode)
            first, last = self.range_of(place)
            if last - first >= 10:
                self.compare_steps_of(place, last - first, mode, arguments)

    def compare_steps_of(self, place: Path, length: int, mode: str, arguments: list[str]):
        steps = self.folder / "steps"
        pick = [self.tools.step_digests, "pick", place, "--seed", self.rng.randrange(10**6), "--random", 500]
        steps.write_text(self.call("pick steps", length, pick))
        at = [self.tools.step_digests, "at", place, "--steps", steps]
        want = self.call("steps: default", length, at).splitlines()
        got = self.call(f"steps: {mode}", length, [*at, *arguments]).splitlines()
        for a, b in zip(want, got):
            if a != b:
                both = f"diff <({shown(at)}) <({shown([*at, *arguments])})"
                raise Failure(f"another machine at a step:\n  default {a}\n  {mode} {b}", f"bash -c {shlex.quote(both)}")

    def seek(self):
        place = self.place_for("chaos")
        first, last = self.range_of(place)
        if last - first < 10:
            return
        for chaos in (0, self.rng.randrange(1, 10**6)):
            self.call("random seeks", last - first,
                      [self.tools.random_seeks, place, SEEKS, self.rng.randrange(10**6), chaos])

    def branch(self, first: int, last: int):
        """Goes on from somewhere, types a little, and verifies what was recorded."""
        if not self.case.script or last - first < 1000:
            return
        at = self.rng.randrange(first, last)
        branch = self.folder / "branch.deja"
        command = [self.tools.deja, "live", "--at", at, "-o", branch.with_suffix(""), self.recording]
        began = time.monotonic()
        guest = Guest(command, self.record_seconds)
        try:
            guest.wait_for(b"going on from step")
            guest.pass_time(self.rng.uniform(0.1, 2))
            guest.type("\necho branched\n")
            guest.pass_time(self.rng.uniform(0.5, 3))
            guest.process.terminate()
            status = guest.finish()
        finally:
            guest.process.kill()
            guest.process.wait()
        trouble = self.trouble_of(guest, status)
        if trouble:
            raise Failure(f"live: status {status}: {trouble}", shown(command))
        if not branch.exists():
            raise Failure(f"live: status {status}, and there is no branch: {guest.output[-2000:].decode(errors='replace')}",
                          shown(command))
        begin, end = self.range_of(branch)
        self.totals.add("branch", max(0, end - at), time.monotonic() - began)
        self.call("verify of a branch", end, [self.tools.deja, "verify", branch])


class Soak:
    def __init__(self, options, build: Path):
        self.options, self.totals = options, Totals()
        self.tools = Tools(build)
        self.guests = soak_cases.Guests(build, options.guests.split(","))
        self._next, self._lock = 0, threading.Lock()

    def seeds(self):
        """The next case's, until there is enough of them."""
        o = self.options
        with self._lock:
            enough = (o.cases and self._next >= o.cases) or (o.steps and self.totals.all_steps() >= o.steps) or \
                self.totals.elapsed() >= o.hours * 3600 or self.totals.stopping
            if enough:
                return None
            self._next += 1
            return o.seed + self._next - 1

    def work(self):
        while (seed := self.seeds()) is not None:
            self.one(seed)

    def one(self, seed: int):
        case = soak_cases.make_case(seed, self.guests)
        folder = Path(tempfile.mkdtemp(prefix=f"soak-{seed}-", dir=self.options.scratch))
        began = time.monotonic()
        run = CaseRun(case, self.tools, self.totals, folder, self.options.record_seconds)
        failure = None
        try:
            run.run()
        except Stopped:
            shutil.rmtree(folder, ignore_errors=True)
            return
        except Failure as found:
            failure = None if self.totals.stopping else found
        except Exception as error:  # a mistake of this program's is told like any other failure
            failure = Failure(f"{type(error).__name__}: {error}", f"./dev soak --seed {seed} --cases 1")
        steps = getattr(run, "steps", 0)
        self.totals.cases += 1
        clear = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{clear}case {seed}: {case}: {steps:,} steps, {len(run.modes)} runs, {time.monotonic() - began:.0f} s: "
              f"{'FAILED' if failure else 'identical'}; {self.totals.all_steps():,} steps in all", flush=True)
        if failure:
            self.keep(seed, folder, failure)
        else:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, seed: int, folder: Path, failure: Failure):
        kept = self.options.keep / folder.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, kept)
        command = failure.command.replace(str(folder), str(kept))
        text = f"{failure.what}\nagain with:\n  {command}\n"
        (kept / "failure.txt").write_text(text)
        self.totals.failures.append(seed)
        print(f"case {seed} FAILED: {text}kept in {kept}", flush=True)

    def run(self) -> int:
        with ThreadPoolExecutor(self.options.jobs) as pool:
            workers = [pool.submit(self.work) for _ in range(self.options.jobs)]
            try:
                for done in workers:
                    done.result()
            except KeyboardInterrupt:
                self.totals.stopping = True
                say("soak: stopping")
        totals = self.totals
        print(f"\n{totals.cases} cases from seed {self.options.seed}, {totals.elapsed() / 3600:.2f} h, "
              f"{len(totals.failures)} failures{': ' if totals.failures else ''}{', '.join(map(str, totals.failures))}")
        print(totals.table())
        return 1 if totals.failures else 0


def main() -> int:
    build = Path(sys.argv[1])
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1, help="no case begins later (default: %(default)s)")
    parser.add_argument("--steps", type=float, help="no case begins after so many steps in all, such as 1e12")
    parser.add_argument("--cases", type=int, help="so many cases at most")
    parser.add_argument("--seed", type=int, help="of the first case; the next has the next number (default: a new one)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="cases at a time (default: one a CPU)")
    parser.add_argument("--record-seconds", type=float, default=90,
                        help="when a recorder is asked to end, wherever its guest is (default: %(default)s)")
    parser.add_argument("--guests", default="linux,metal", help="of which kinds (default: %(default)s)")
    parser.add_argument("--keep", type=Path, default=Path("soak-failures"),
                        help="folder for what fails (default: %(default)s)")
    parser.add_argument("--scratch", type=Path, help="folder for recordings at work (default: the system's for such)")
    options = parser.parse_args(sys.argv[2:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, with the table
    if options.seed is None:
        options.seed = time.time_ns() % 10**9
    say(f"soak: seed {options.seed}, {options.jobs} at a time")
    return Soak(options, build).run()


if __name__ == "__main__":
    sys.exit(main())
