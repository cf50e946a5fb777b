#!/usr/bin/env python3
"""Makes docs/options.md of what the program says itself: `deja --help` and the help of every verb.

Only the examples of single options and the page's words around the tables stand here. tests/tools/test_options.py
checks that the page is what this script makes now, and that the program understands every example.
"""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/options.md"

# The groups that several verbs have, each described once.
SHARED = {"Machine": "machine", "Engine (never visible to the guest)": "engine"}

# One example of each option, by verb or group. HELP needs none.
EXAMPLES = {
    "machine": {
        "IMAGE": "deja record debian.qcow2",
        "--memory": "deja record -m 2G debian.qcow2",
        "--smp": "deja record --smp 4 debian.qcow2",
        "--cpu": "deja record --cpu x86-64-v3,+sha-ni debian.qcow2",
        "--kernel": "deja record --kernel vmlinuz --initrd initrd.img --append console=ttyS0",
        "--firmware": "deja record --firmware ovmf debian.qcow2",
        "--initrd": "deja record --kernel vmlinuz --initrd initrd.img --append console=ttyS0",
        "--append": 'deja record --kernel vmlinuz --append "console=ttyS0 root=/dev/vda" --drive file=debian.raw',
        "--boot": "deja record --kernel vmlinuz --boot bzimage --append console=ttyS0",
        "--serial": "deja record debian.qcow2 --serial file:console.txt",
        "--drive": "deja record debian.qcow2 --drive file=data.raw,format=raw,serial=DATA",
        "--nic": "deja record debian.qcow2 --nic user,hostfwd=tcp::2222-:22",
        "--console": "deja record --console unix:hvc0.sock,server,nowait debian.qcow2",
        "--screen": "deja record --screen 1024x768 debian.qcow2",
        "--monitor": "deja record --monitor monitor.sock debian.qcow2",
        "--no-reboot": "deja record --no-reboot debian.qcow2",
        "--until": """deja record --until 'serial:"login:"' debian.qcow2""",
        "--until-exit": "deja record --until-exit debian.qcow2",
        "--rtc": "deja record --rtc 1700000000 debian.qcow2",
        "--rng-seed": "deja record --rng-seed 00112233445566778899aabbccddeeff debian.qcow2",
        "--chaos": "deja record --chaos 7 --smp 2 debian.qcow2",
        "--guest-control": "deja record --guest-control marks debian.qcow2",
        "--machine-behaviour": "deja record --machine-behaviour 10 debian.qcow2",
        "--quantum": "deja record --quantum 50000 --smp 2 debian.qcow2",
    },
    "engine": {
        "--chaos-engine": "deja verify --chaos-engine 7 crash",
        "--engine": "deja verify --engine no-link,max-insns=1 crash",
        "--log": "deja replay --log guest,devices crash",
        "--stats": "deja replay --quiet --stats crash",
        "--perf-map": "deja replay --quiet --perf-map crash",
    },
    "common": {"--sandbox": "deja record --sandbox strict debian.qcow2"},
    "run": {"--recordings": "deja run --recordings /var/tmp/deja debian.qcow2"},
    "record": {
        "--output": "deja record -o crash debian.qcow2",
        "--no-copy-inputs": "deja record --no-copy-inputs --kernel vmlinuz --append console=ttyS0",
        "--checkpoint-every": "deja record --checkpoint-every 50M debian.qcow2",
        "--keep": "deja record --keep 10m debian.qcow2",
    },
    "replay": {
        "REC": "deja replay latest",
        "--to": "deja replay --to 50% crash",
        "--digest": "deja replay --to 50% --digest crash",
        "--quiet": "deja replay --quiet crash",
        "--realtime": "deja replay --realtime crash",
    },
    "verify": {"REC": "deja verify crash boot"},
    "info": {"REC": "deja info latest", "--json": "deja info --json crash"},
    "ls": {"DIR": "deja ls /var/tmp/deja"},
    "rm": {"REC": "deja rm crash"},
    "dump": {
        "REC": "deja dump latest",
        "--kind": "deja dump --kind serial,digest crash",
        "--from": "deja dump --from 50% crash",
        "--to": "deja dump --to panic crash",
    },
    "index": {"REC": "deja index latest", "--checkpoint-every": "deja index --checkpoint-every 50M crash"},
    "export": {
        "REC": "deja export latest memory ram.bin",
        "WHAT": "deja export crash vmcore out.core",
        "FILE": "deja export web pcap traffic.pcapng",
        "--at": "deja export crash vmcore --at panic out.core",
        "--drive": "deja export web disk --drive 1 data.raw",
    },
    "image": {
        "SYSTEM": "deja image debian12 debian.qcow2",
        "OUT": "deja image debian12 debian.raw",
        "--size": "deja image debian12 debian.qcow2 --size 4G",
        "--packages": "deja image debian12 debian.qcow2 --packages gcc,libc6-dev,make",
        "--hostname": "deja image debian12 debian.qcow2 --hostname build",
        "--user": "deja image debian12 debian.qcow2 --user ada",
        "--ssh-key": "deja image debian12 debian.qcow2 --ssh-key ~/.ssh/id_ed25519.pub",
        "--mirror": "deja image debian12 debian.qcow2 --mirror http://deb.debian.org/debian",
    },
    "live": {
        "REC": "deja live crash",
        "--at": "deja live crash --at -2s",
        "--output": "deja live crash --at -2s -o fixed",
        "--serial": "deja live crash --serial file:console.txt",
        "--nic": "deja live day --nic user",
    },
    "pack": {
        "REC": "deja pack crash",
        "--output": "deja pack -o for-a-colleague.dejavm crash",
        "--with-base": "deja pack --with-base web",
        "--without-base": "deja pack --without-base web",
    },
    "unpack": {"FILE": "deja unpack crash.dejavm", "--output": "deja unpack -o theirs crash.dejavm"},
    "trim": {
        "REC": "deja trim crash --from -2s",
        "--from": "deja trim crash --from -2s",
        "--to": "deja trim crash --from 10% --to panic",
        "--output": "deja trim crash --from -2s -o crash-end",
        "--checkpoint-every": "deja trim crash --from -2s --checkpoint-every off",
    },
    "bisect": {"REC": "deja bisect crash", "--against": "deja bisect --against no-quick crash"},
    "stats": {"REC": "deja stats latest", "--to": "deja stats --to 50% boot", "--json": "deja stats --json boot"},
    "debug": {
        "REC": "deja debug crash",
        "GDB-ARGUMENTS": "deja debug crash -- -batch -x SCRIPT",
        "--at": "deja debug --at end crash",
        "--serve": "deja debug -s 1234 crash",
        "--process": "deja debug --at end -p 214 crash",
        "--symbols": "deja debug crash --symbols vmlinux",
        "--gdb": "deja debug --gdb /usr/local/bin/gdb crash",
        "--print-commands": "deja debug --print-commands",
    },
    "who-wrote": {
        "REC": "deja who-wrote latest ffff888003a51c40",
        "ADDRESS[/LENGTH]": "deja who-wrote crash ffffffff82a11004/4",
        "--at": "deja who-wrote crash ffffffff82a11004/4 --at 50%",
        "--as": "deja who-wrote crash 55d0c0de1000 --as 214",
        "--symbols": "deja who-wrote crash ffff888003a51c40 --symbols build/",
        "--all": "deja who-wrote --all crash ffff888003a51c40",
        "--json": "deja who-wrote --json crash ffff888003a51c40",
    },
    "help": {"VERB": "deja help record"},
    "screenshot": {
        "REC": "deja screenshot latest last.png",
        "FILE": "deja screenshot crash last.png",
        "--at": "deja screenshot crash --at panic panic.png",
    },
}

INTRODUCTION = """# Options

Every option of every verb. `tools/options_doc.py` makes this page of what `deja VERB --help` says; change the words
there, in `src/cli/verbs/` and `src/cli/options/`, then run it.

Options take their value behind a space or an equals sign, and stand before or after the recording or image; those that
are repeatable are given once for each value. REC is the name of a recording, its path, or
`latest`. Positions, as `--at`, `--to` and `--from` take them, are explained in
[time-travel.md](time-travel.md#positions). `deja --version` and `deja version` print the version.

Exit statuses: 0, done; 1, an error; 2, the command line is wrong; 3, done, but the recording is damaged and this is of
its intact part. `run`, `record` and `live` end with the guest's status when it has one.

## QEMU's spellings

QEMU's single-dash spelling of an option works too, so a QEMU command line mostly works as it stands.

| QEMU | here |
| --- | --- |
| `-m`, `-smp`, `-cpu`, `-kernel`, `-initrd`, `-append`, `-serial`, `-drive`, `-nic`, `-monitor`, `-no-reboot` | the option of the same name; names of CPU models differ |
| `-bios FILE` | `--firmware FILE` |
| `-device bochs-display,xres=W,yres=H` | `--screen WxH`; there are no other values of `-device` |
| `-nographic`, `-nodefaults`, `-display`, `-vga` | accepted, without effect |
| `-machine`, `-M`, `-accel`, `-enable-kvm`, `-icount` | accepted with a note: there is one machine, one engine, and time is always counted |
| `-hda`, `-hdb`, `-cdrom`, `-net`, `-netdev` | refused, with what to give instead |

## Keys and the monitor

At the console, Ctrl-A x ends the run, Ctrl-A c switches to the monitor and back, Ctrl-A b sends BREAK, Ctrl-A h helps.
The monitor's `help` lists its commands. A recording's monitor is also on the socket `monitor.sock` in its directory.
"""


@dataclass
class Option:
    names: list[str]
    value: str
    default: str
    meaning: str

    @property
    def name(self) -> str:
        """The long one."""
        return max(self.names, key=len)


@dataclass
class Verb:
    name: str
    summary: str
    groups: dict[str, list[Option]] = field(default_factory=dict)
    footer: str = ""


def help_of(deja: Path, *words: str) -> str:
    done = subprocess.run([deja, *words, "--help"], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return done.stdout


def parse_option(head: str, meaning: str) -> Option:
    """`-m,--memory TEXT`, `--at TEXT=end`, `--sandbox TEXT:{on,off}=on`, `REC TEXT REQUIRED`."""
    names, _, rest = head.partition(" ")
    required = "REQUIRED" in rest
    rest = re.sub(r" ?(Excludes: \S+|REQUIRED)", "", rest)
    many = rest.endswith(" ...")
    kind, _, default = rest.removesuffix(" ...").partition("=")
    choice = re.search(r"\{(.*)\}", kind)
    limits = re.search(r"in \[(\d+) - (\d+)\]", kind)
    if choice:
        value = " or ".join(f"`{word}`" for word in choice[1].split(","))
    elif limits:
        value = f"{int(limits[1]):,} to {int(limits[2]):,}"
    else:
        value = {"": "", "TEXT": "text", "UINT": "number", "INT": "number", "PATH": "path", "PID": "PID"}[kind]
    if many:
        value += ", repeatable"
    if not default and (found := re.search(r" ?\[([^\[\]]+)\]$|\[([^\[\]]+)\](?=:)", meaning)):
        default = found[1] or found[2]
        meaning = (meaning[:found.start()].rstrip() + meaning[found.end():]).rstrip()
    return Option(names.split(","), value, "required" if required else default, meaning)


def parse_verb(name: str, text: str) -> Verb:
    lines = text.splitlines()
    verb, group, option, footer = Verb(name, lines[0]), None, None, []
    heads: list[tuple[str, list[str]]] = []
    for line in lines[2:]:
        if found := re.match(r"(\S[^:]*):$", line):
            known = found[1] in ("Positionals", "Options", *SHARED)
            if known and not footer:
                group = found[1]
                verb.groups[group] = []
                continue
        if group and line.startswith("  ") and not footer:
            if line.startswith(" " * 20):
                option = heads[-1]
                option[1].append(line.strip())
            else:
                head, *rest = re.split(r" {2,}", line.strip(), maxsplit=1)
                heads.append((head, rest))
                verb.groups[group].append(heads[-1])
        elif line.strip() or footer:
            footer.append(line)
    verb.footer = "\n".join(footer).strip()
    verb.groups = {group: [parse_option(head, " ".join(words)) for head, words in options if not head.startswith("-h,")]
                   for group, options in verb.groups.items()}
    return verb


def read_verbs(deja: Path) -> list[Verb]:
    listed = help_of(deja).partition("Subcommands:\n")[2]
    return [parse_verb(name, help_of(deja, name)) for name in re.findall(r"^  (\S+) ", listed, re.M)]


def table(options: list[Option], examples: dict[str, str]) -> str:
    rows = ["| option | value | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
    for option in options:
        if option.name not in examples:
            sys.exit(f"options: {option.name} has no example in tools/options_doc.py")
        cells = [", ".join(f"`{name}`" for name in option.names), option.value, option.default, option.meaning,
                 f"`{examples[option.name]}`"]
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows)


def make_page(verbs: list[Verb]) -> str:
    parts = [INTRODUCTION]
    shared = {group: verb.groups[group] for verb in verbs for group in SHARED if group in verb.groups}
    sandbox = next(o for verb in verbs for o in verb.groups["Options"] if o.name == "--sandbox")
    parts.append("## Verbs\n\n" + "\n".join(f"- [`{verb.name}`](#{verb.name}): {verb.summary}" for verb in verbs) + "\n")
    for verb in verbs:
        own = [o for group in ("Positionals", "Options") for o in verb.groups.get(group, [])]
        links = []
        if "Machine" in verb.groups:
            links.append("those of [the machine](#the-machine)")
            own = [o for o in own if o.name != "IMAGE"]
        if any(o.name == "--sandbox" for o in own):
            links.append("`--sandbox`")
            own = [o for o in own if o.name != "--sandbox"]
        if any(group.startswith("Engine") for group in verb.groups):
            links.append("those of [the engine](#the-engine)")
        text = f"### {verb.name}\n\n{verb.summary}.\n"
        if own:
            text += "\n" + table(own, EXAMPLES.get(verb.name, {})) + "\n"
        if links:
            text += f"\n{'Further options' if own else 'Options'}: {', '.join(links)}.\n"
        if verb.footer:
            text += f"\n```text\n{verb.footer}\n```\n"
        parts.append(text)
    image = next(o for verb in verbs for o in verb.groups.get("Positionals", []) if o.name == "IMAGE")
    parts.append("## The machine\n\nOptions of `run` and `record`. [devices.md](devices.md) describes the devices, "
                 "[guest-control.md](guest-control.md) what\nprograms in the guest may ask for, "
                 "[determinism.md](determinism.md) the CPU models and chaos.\n\n"
                 + table([image, *shared["Machine"]], EXAMPLES["machine"]) + "\n")
    parts.append("## The engine\n\nOptions of all verbs that run a machine. None of them changes what the guest does. "
                 "[performance.md](performance.md) and\n[determinism.md](determinism.md#chaos-mode) say what they are "
                 "for; [security.md](security.md) explains `--sandbox`.\n\n"
                 + table([sandbox, *shared["Engine (never visible to the guest)"]],
                         EXAMPLES["common"] | EXAMPLES["engine"]) + "\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deja", type=Path, default=ROOT / "build/deja", help="the program [build/deja]")
    options = parser.parse_args()
    PAGE.write_text(make_page(read_verbs(options.deja)))


if __name__ == "__main__":
    main()
