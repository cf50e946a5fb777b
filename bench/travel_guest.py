"""The guest of the travel bench: the demo guest with a first process of its own, which works for as long as it is told
and then powers off. Nothing is typed, so that the same runs in QEMU's record/replay."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from guest import demo_guest  # noqa: E402
from image import Image  # noqa: E402

# About a second of mixed work by the guest's clock: files, processes, pipes, memory, arithmetic in two interpreters.
WORK = """ls -lR /usr /proc/self >/dev/null; relay 300 >/dev/null; seq 20000 | sort -rn | sha256sum >/dev/null
  head -c 1500000 /usr/bin/busybox | sha256sum >/tmp/x
  gawk 'BEGIN { for (i = 0; i < 150000; i++) a[i % 5000] += i }'
  i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"""
# The host name is written once, before the work: what a watchpoint on it looks for is far back.
INIT = f"""#!/bin/sh
export PATH=/usr/bin HOME=/root LANG=C
mount -t proc proc /proc
for word in $(cat /proc/cmdline); do
  case $word in travel=*) repeat=${{word#travel=}} ;; esac
done
hostname travelling
echo TRAVEL-START
n=0
while [ $n -lt $repeat ]; do
  n=$((n+1))
  {WORK}
done
echo TRAVEL-END
poweroff -f
"""
MEMORY = "256M"


class TravelGuest:
    def __init__(self, work: Path):
        made = demo_guest("cloud-amd64", refresh=False)
        image = Image([])
        image.write("travel", INIT.encode(), 0o755)
        base = Path(made["initrd"]).read_bytes()
        self.kernel = str(made["kernel"])
        self.initrd = work / "initrd"
        self.initrd.write_bytes(base + bytes(-len(base) % 4) + image.initramfs())

    def options(self, seconds: int) -> list[str]:
        """What DejaVM and QEMU take alike, but for the dashes."""
        return ["-m", MEMORY, "--kernel", self.kernel, "--initrd", str(self.initrd),
                "--append", f"console=ttyS0 quiet nokaslr rdinit=/travel travel={seconds}"]
