"""What ./dev soak records: machines, what runs in them and what is typed meanwhile, each drawn from one number."""

import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cache import cache_dir
from guest import demo_guest

PROMPT = b"demo# "
CPU_MODELS = ["x86-64-v3", "x86-64-v3", "x86-64-v2"]


@dataclass
class Case:
    seed: int
    guest: str
    options: list[str]                                 # of `deja record`, without -o
    drive: bytes | None = None                         # what is on the disk
    script: list[str] = field(default_factory=list)    # lines for the shell, one after another
    typing: list[tuple[float, str]] = field(default_factory=list)  # host seconds to wait, then what is typed
    ending: str = "end"                                # end: the guest's own; poweroff, kill, term

    def __str__(self):
        return f"{self.guest} {' '.join(self.options_shown())}"

    def options_shown(self):
        """Without paths, and with what else the case is about."""
        paths = {"--kernel", "--initrd", "--append"}
        shown = [o for i, o in enumerate(self.options) if o not in paths and self.options[max(0, i - 1)] not in paths]
        return shown + ([f"{len(self.script)} commands, ends by {self.ending}"] if self.script else [])


class Guests:
    """The guests there are: Debian's kernels with the demo guest's initramfs, and the kernels of tests/guest."""

    def __init__(self, build: Path, only: list[str]):
        self.linux = {}
        if "linux" in only:
            self.linux["linux"] = demo_guest("cloud-amd64", refresh=False)
            self.linux["linux-devices"] = demo_guest("cloud-amd64", refresh=False, devices=True)
            # The large kernel takes a download, so only where somebody has asked for it before.
            if any(cache_dir("recipes").glob("devices-amd64-*.json")):
                self.linux["linux-amd64-devices"] = demo_guest("amd64", refresh=False, devices=True)
        folder = build / "tests/guest"
        self.metal = sorted(p for p in folder.glob("*") if p.with_suffix(".elf").exists() and not p.suffix) \
            if "metal" in only else []
        if not self.linux and not self.metal:
            sys.exit("soak: there are no guests; --guests takes linux and metal")

    def draw(self, rng: random.Random) -> str:
        """A name. Half of the Linux guests are the plain demo guest, which is the quickest to boot; half of the others
        are rep_shapes, which has the most blocks of all sorts."""
        if self.metal and (not self.linux or rng.random() < 0.3):
            return "rep_shapes" if rng.random() < 0.5 else rng.choice(self.metal).name
        return "linux" if rng.random() < 0.5 else rng.choice(sorted(self.linux))


def machine(rng: random.Random, least_vcpus: int = 1) -> list[str]:
    """Options that every guest takes."""
    options = ["-smp", str(max(least_vcpus, rng.choice([1, 1, 2, 2, 3, 4, 4, 5, 8])))]
    if rng.random() < 0.6:
        options += ["--quantum", str(rng.choice([5_000, 7_919, 20_000, 50_000, rng.randint(5_000, 200_000)]))]
    if rng.random() < 0.3:
        options += ["--chaos", str(rng.randrange(1, 10**6))]
    options += ["--cpu", rng.choice(CPU_MODELS)]
    if rng.random() < 0.2:
        options += ["--chaos-engine", str(rng.randrange(1, 10**6))]
    return options


def metal_case(seed: int, rng: random.Random, kernel: Path) -> Case:
    needs_two = b"trampoline" in kernel.with_suffix(".elf").read_bytes()
    options = ["--kernel", str(kernel), "-m", "64M", *machine(rng, 2 if needs_two else 1)]
    return Case(seed, kernel.name, options)


def linux_case(seed: int, rng: random.Random, name: str, files: dict[str, str]) -> Case:
    options = ["--kernel", files["kernel"], "--initrd", files["initrd"], "--append", "console=ttyS0 quiet",
               "-m", rng.choice(["192M", "256M", "512M", "1G"]), *machine(rng)]
    case = Case(seed, name, options)
    devices = []
    if name.endswith("devices"):
        devices = add_devices(case, rng)
    case.script = script(rng, vcpus=int(options[options.index("-smp") + 1]), devices=devices)
    for _ in range(rng.choice([0, 3, 10, 30])):
        case.typing.append((rng.expovariate(4), rng.choice(TYPED)))
    case.ending = rng.choice(["poweroff", "poweroff", "poweroff", "kill", "term"])
    return case


def add_devices(case: Case, rng: random.Random) -> list[str]:
    devices = []
    if rng.random() < 0.8:
        devices.append("drive")
        case.drive = rng.randbytes(rng.choice([1, 8, 32]) << 20)
    if rng.random() < 0.5:
        devices.append("nic")
        case.options += ["--nic", "user"]
    if rng.random() < 0.5:
        devices.append("screen")
        case.options += ["--screen", rng.choice(["640x480", "1024x768"])]
    if rng.random() < 0.5:
        devices.append("console")
        case.options += ["--console", "none"]
    return devices


# What is typed while something runs: harmless wherever it falls.
TYPED = ["echo typed\n", "\n", "ls /proc | wc -l\n", "\x08", "date\n", "cat /proc/interrupts\n", "uptime\n", "true; false\n",
         "head -c 100000 /dev/urandom | md5sum\n"]


def pipelines(rng: random.Random) -> list[str]:
    """Commands that keep one or two vCPUs busy, some 10^8 steps each."""
    n = rng.randint
    return [
        f"dd if=/dev/zero bs=64k count={n(100, 3000)} 2>/dev/null | md5sum",
        f"dd if=/dev/zero bs=64k count={n(100, 3000)} 2>/dev/null | md5sum",
        f"dd if=/dev/zero bs={n(1, 9000)} count={n(500, 5000)} 2>/dev/null | sha256sum",
        f"dd if=/dev/urandom bs=64k count={n(20, 100)} 2>/dev/null | busybox gzip -c | busybox gzip -dc | md5sum",
        f"dd if=/dev/zero of=/tmp/z$$ bs=1M count={n(5, 30)} 2>/dev/null; md5sum </tmp/z$$; rm /tmp/z$$",
        f"yes soak | head -c {n(1, 20)}000000 | busybox gzip -c | wc -c",
        f"seq {n(1000, 60000)} | sort -rn | uniq | sha256sum",
        f"gawk 'BEGIN {{ for (i = 0; i < {n(100000, 900000)}; i++) s = (s * 7 + i) % 9973; print s }}'",
        "busybox tar c -C / usr bin lib 2>/dev/null | busybox tar t | wc -l",
        "busybox tar c -C / usr bin 2>/dev/null | busybox gzip -c | md5sum",
        "find / -xdev -type f -size -200k 2>/dev/null | xargs md5sum 2>/dev/null | sort | md5sum",
        "find /proc /sys -type f -name 'c*' 2>/dev/null | wc -l",
        f"i=0; while [ $i -lt {n(50, 400)} ]; do (true); i=$((i+1)); done",
        f"i=0; while [ $i -lt {n(20, 100)} ]; do /bin/busybox true; sleep 0.00{n(1, 9)}; i=$((i+1)); done",
        f"i=0; while [ $i -lt {n(20, 100)} ]; do sleep 9 & kill -STOP $!; kill -CONT $!; kill $!; wait $! 2>/dev/null; "
        "i=$((i+1)); done",
        f"trap 'c=$((c+1))' USR1; (i=0; while [ $i -lt {n(50, 300)} ]; do kill -USR1 $$; i=$((i+1)); done); echo $c",
        f"relay {n(50, 1500)}",
        "tour",
        "dmesg | gawk '{ n += length($0) } END { print n }'",
        "echo 3 >/proc/sys/vm/drop_caches; ls -lR /usr | md5sum",
        "cat /proc/kallsyms 2>/dev/null | head -n 20000 | md5sum",
    ]


def with_vcpus(vcpus: int) -> list[str]:
    last = vcpus - 1
    return [f"echo 0 >/sys/devices/system/cpu/cpu{last}/online; sleep 0.01; echo 1 >/sys/devices/system/cpu/cpu{last}/online",
            f"busybox taskset 1 md5sum /bin/busybox; busybox taskset {1 << last:x} md5sum /bin/busybox"]


DEVICE_COMMANDS = {
    "drive": ["md5sum /dev/vda", "dd if=/dev/urandom of=/dev/vda bs=4k count=100 seek=16 conv=notrunc 2>/dev/null; sync",
              "dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; md5sum /dev/vda"],
    "nic": ["ip link set eth0 up; udhcpc -qn -i eth0 2>/dev/null | tail -n 1", "ping -c 3 -i 0.1 10.0.2.2"],
    "screen": ["dd if=/dev/urandom of=/dev/fb0 bs=4k count=100 2>/dev/null", "cat /bin/busybox >/dev/fb0"],
    "console": ["dmesg >/dev/hvc0", "seq 2000 >/dev/hvc0"],
}


def script(rng: random.Random, vcpus: int, devices: list[str]) -> list[str]:
    lines = ["drivers 2>/dev/null"] if devices else []
    for _ in range(rng.randint(2, 5)):
        # Side by side, so that each vCPU is busy and turns end by the quantum.
        at_once = [f"({rng.choice(pipelines(rng))}) &" for _ in range(rng.randint(1, vcpus + 1))]
        lines.append(" ".join(at_once) + " wait")
        if vcpus > 1 and rng.random() < 0.3:
            lines.append(rng.choice(with_vcpus(vcpus)))
        if devices and rng.random() < 0.8:
            lines.append(rng.choice(DEVICE_COMMANDS[rng.choice(devices)]))
    return lines


def make_case(seed: int, guests: Guests) -> Case:
    rng = random.Random(seed)
    name = guests.draw(rng)
    if name in guests.linux:
        return linux_case(seed, rng, name, guests.linux[name])
    return metal_case(seed, rng, next(p for p in guests.metal if p.name == name))
