#!/usr/bin/env python3
"""Makes golden recordings that are not there yet (`./dev golden --make`); README.md says when.

    make.py BUILD                 all that this host's folder lacks
    make.py BUILD NAME…           these
    make.py BUILD --folder PATH   elsewhere, to try out

A recording that is there stays as it is: it is what users' recordings look like.
"""
import argparse
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import kernel
from golden import HERE, KERNEL_OF, MADE, PACKED, STEPS, TIMEOUT, UNPACKED, Programs, must

from debian import concrete_kernel, fetch
from image import Image

# Paths stand in manifests: they say nothing of the maker's host.
SCRATCH = Path("/tmp/deja-golden")
DATE, SEED = "1000000000", "00112233445566778899aabbccddeeff"
# Anywhere in a recording, at its end, at ends of turns, at timers' moments, at inputs.
PICKED = ["--random", 40, "--turns", 8, "--timers", 8, "--inputs", 6, "--seed", 10]
LINUX_STEPS = ["--random", 40, "--turns", 0, "--timers", 0, "--inputs", 0, "--seed", 10]
GCC_FLAGS = """-Os -static -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables
    -mgeneral-regs-only -Wall -Wextra -Werror -Wl,--build-id=none -s""".split()


@dataclass
class Golden:
    """A guest of tests/guest, run with `options`; `script`: what is waited for on its console, and then typed."""
    name: str
    guest: str = ""
    options: list = field(default_factory=list)
    memory: str = "32M"
    exit: int = 1
    script: list = field(default_factory=list)


LEADS_THREE_TIMES = [("ready\n", "work\n"), ("done\n", "mark half way\n"), ("done\n", "work\n"), ("done\n", "end\n")]
# Some seconds of host time in which the window of a flight recorder moves on.
LEADS_LONG = [("ready\n", "work\n")] + 12 * [("done\n", 0.3), ("", "work\n")] + [("done\n", "end\n")]

GOLDEN = [
    *[Golden(name) for name in """paging paging_coherent interrupts fpu exceptions privilege compat compat_events real_mode
        pae protected32 strings rep_shapes smc quick loops far_jumps end_of_canonical debug_registers
        debug_priorities clocks polling rtc_wake""".split()],
    Golden("cpu_features"),
    Golden("cpuid_leaves", options=["--screen", "640x480", "--nic", "user", "--console", "none", "--drive", "file={disk}"]),
    Golden("cpuid_leaves_v2", "cpuid_leaves", ["--cpu", "x86-64-v2", "--smp", "2"]),
    Golden("cpu_features_v2", "cpu_features", ["--cpu", "x86-64-v2"]),
    Golden("marks_and_exit", "guest_control", exit=42),
    Golden("power_off", exit=0),
    *[Golden(name) for name in ("reset_cf9", "reset_8042", "reset_triple")],
    Golden("smp", options=["--smp", "2"]),
    Golden("smp_chaos", "smp", ["--smp", "2", "--chaos", "7"]),
    Golden("chaos", "interrupts", ["--chaos", "3"]),
    Golden("screen", "pci_windows", ["--screen", "640x480"], memory="128M"),
    Golden("devices", "virtio", ["--drive", "file={disk},serial=golden", "--nic", "user"],
           script=[("ready\n", "typed\n"), ("typed\n", "end\n")]),
    Golden("checkpoints", "listener", ["--checkpoint-every", "5M"], script=LEADS_THREE_TIMES),
    Golden("window", "listener", ["--keep", "1s", "--checkpoint-every", "20M"], script=LEADS_LONG),
]
# Made of the recording "checkpoints": arguments of deja, with the console's script.
DERIVED = {
    "branch": (["live", "--at", "mark:half way"], [("", "end\n")]),
    "trimmed": (["trim", "--from", "30%", "--to", "mark:half way", "--checkpoint-every", "5M"], []),
}
LINUX = "linux"


def lead(command, script, expected):
    """Runs a recorder and types what the script says; a number in it is a time to wait, in seconds."""
    with subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        said, seen, deadline = "", 0, time.monotonic() + TIMEOUT
        for wanted, typed in script:
            while (at := said.find(wanted, seen)) < 0:
                ready = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))[0]
                data = os.read(process.stdout.fileno(), 65536) if ready else b""
                if not data:
                    process.kill()
                    raise RuntimeError(f"{command}: no {wanted!r} after\n{said[seen:]}")
                said += data.decode(errors="replace").replace("\r\n", "\n")
            seen = at + len(wanted)
            if isinstance(typed, str):
                process.stdin.write(typed.encode())
                process.stdin.flush()
            else:
                time.sleep(typed)
        rest, _ = process.communicate(timeout=TIMEOUT)
    if process.returncode != expected:
        raise RuntimeError(f"{command}: status {process.returncode}, not {expected}:\n{said}{rest.decode(errors='replace')}")


class Maker:
    def __init__(self, programs, folder):
        self.programs, self.folder, self.deja = programs, folder, programs.deja
        shutil.rmtree(SCRATCH, ignore_errors=True)
        SCRATCH.mkdir(mode=0o700)

    def recording(self, name):
        return SCRATCH / f"{name}{UNPACKED}"

    def record(self, golden):
        guest = SCRATCH / (golden.guest or golden.name)
        shutil.copyfile(self.programs.guests / guest.name, guest)
        disk = SCRATCH / "disk.img"
        disk.write_bytes(b"A disk of 64 KiB.\n".ljust(64 * 1024, b"\0"))
        lead([self.deja, "record", "-o", self.recording(golden.name), "-m", golden.memory, "--kernel", guest,
              "--rtc", DATE, "--rng-seed", SEED, *[option.format(disk=disk) for option in golden.options]],
             golden.script, golden.exit)

    def derive(self, name):
        command, script = DERIVED[name]
        source = self.recording("checkpoints")
        if not source.exists():
            must(self.deja, "unpack", self.folder / f"checkpoints{PACKED}", "-o", source)
        lead([self.deja, command[0], source, "-o", self.recording(name), *command[1:]], script, 1 if script else 0)

    def list_steps(self, name, picked):
        """What the check compares, as text."""
        steps = SCRATCH / f"{name}.picked"
        steps.write_text(must(self.programs.step_digests, "pick", self.recording(name), *picked))
        return must(self.programs.step_digests, "at", "--whole", self.recording(name), "--steps", steps)

    def keep(self, name, picked=PICKED):
        """A recording is golden once engines agree on it; it is then packed into the folder."""
        for engine in ([], ["--engine", "max-insns=1"], ["--chaos-engine", "10"]):
            must(self.deja, "verify", *engine, self.recording(name))
        digests = self.list_steps(name, picked)
        if name == LINUX:
            return digests
        must(self.deja, "pack", self.recording(name), "-o", self.folder / f"{name}{PACKED}")
        (self.folder / f"{name}{STEPS}").write_text(digests)
        return digests

    def linux(self):
        """A boot with the demo guest's kernel and a program of some KiB."""
        package, = fetch([concrete_kernel("linux-image-cloud-amd64")])
        wanted = kernel.identity(package, hashlib.sha1(package.path.read_bytes()).hexdigest())
        bzimage, initrd, program = SCRATCH / wanted["file"], SCRATCH / "initrd", SCRATCH / "init"
        shutil.copyfile(kernel.find(wanted), bzimage)
        subprocess.run(["gcc", *GCC_FLAGS, HERE / "linux_init.c", "-o", program], check=True)
        image = Image([])
        image.write("init", program.read_bytes(), 0o755)
        initrd.write_bytes(image.initramfs())
        lead([self.deja, "record", "-o", self.recording(LINUX), "-m", "96M", "--kernel", bzimage, "--initrd", initrd,
              "--append", "console=ttyS0 panic=-1", "--rtc", DATE, "--rng-seed", SEED, "--no-reboot",
              "--checkpoint-every", "off"], [("golden: ready\n", "a line\n")], 0)
        digests = self.keep(LINUX, LINUX_STEPS)
        (self.recording(LINUX) / "inputs" / f"sha256-{wanted['sha256']}").unlink()
        shutil.copytree(self.recording(LINUX), self.folder / f"{LINUX}{UNPACKED}")
        (self.folder / f"{LINUX}{KERNEL_OF}").write_text(json.dumps(wanted, indent=1) + "\n")
        (self.folder / f"{LINUX}{STEPS}").write_text(digests)

    def make(self, name):
        print(f"golden: making {self.folder.name}/{name}", file=sys.stderr, flush=True)
        if name == LINUX:
            return self.linux()
        if name in DERIVED:
            self.derive(name)
        else:
            self.record(next(golden for golden in GOLDEN if golden.name == name))
        self.keep(name)

    def note_maker(self):
        made = {"cpu": host_cpu(), "deja": must(self.deja, "version").strip()}
        (self.folder / MADE).write_text(json.dumps(made, indent=1) + "\n")


def host_cpu():
    """Vendor, family, model… of the CPU, as the kernel calls them."""
    text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    found = dict(re.findall(r"^(vendor_id|cpu family|model|model name|stepping)\s*: (.*)$", text, re.M))
    return {name.replace(" ", "_"): value for name, value in found.items()}


def usual_folder(deja):
    """Of this build's machine on this maker's CPU, such as v10-amd."""
    version = re.search(r"behaviour (\d+)", must(deja, "version")).group(1)
    makers = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}
    return HERE / f"v{version}-{makers.get(host_cpu()['vendor_id'], 'other')}"


def main():
    parser = argparse.ArgumentParser(prog="./dev golden --make", description="Makes golden recordings that are missing.")
    parser.add_argument("build", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--folder", type=Path, help="where they go [tests/golden/vVERSION-MAKER]")
    options = parser.parse_args()
    programs = Programs.of_build(options.build)
    folder = (options.folder or usual_folder(programs.deja)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    names = [*[golden.name for golden in GOLDEN], *DERIVED, LINUX]
    if unknown := set(options.names) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: there are {' '.join(names)}")
    missing = [name for name in options.names or names if not (folder / f"{name}{STEPS}").exists()]
    maker = Maker(programs, folder)
    for name in missing:
        maker.make(name)
    if missing:
        maker.note_maker()
    shutil.rmtree(SCRATCH)
    print(f"golden: {len(missing)} recordings made in {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
