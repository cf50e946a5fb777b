#!/usr/bin/env python3
"""Makes the demo guest: Debian's own kernel and a small initramfs of Debian's own programs.

Prints exactly two lines, kernel=PATH and initrd=PATH. Both lie in the cache under names that carry their content's
hash. What was made once is kept, also when Debian publishes a newer kernel; --refresh asks apt again.
"""

import argparse
import posixpath
import sys
from pathlib import Path

from cache import ROOT, Recipe, locked, put, say
from debian import concrete_kernel, contents, fetch
from image import Image

PACKAGES = """busybox-static bash coreutils grep gawk libc6 libgcc-s1 libtinfo6 libreadline8 libselinux1 libpcre2-8-0
    libacl1 libattr1 libgmp10 libmpfr6 libsigsegv2 libssl3 ncurses-base""".split()
PROGRAMS = """bin/bash bin/cat bin/ls bin/sleep usr/bin/sort usr/bin/wc usr/bin/sha256sum usr/bin/uniq usr/bin/seq
    usr/bin/head bin/grep usr/bin/gawk
    lib/terminfo/v/vt100""".split()
APPLETS = """sh mount umount mkdir mknod mkfifo rm cp mv ln dd df du ps top kill killall free uname uptime date dmesg
    echo env false true id hostname clear cut tr tail tee touch find xargs sed vi less more hexdump od md5sum cttyhack
    setsid stty tty poweroff reboot halt sync yes time usleep which""".split()


# What --devices adds: more applets, and the modules for the machine's devices in the order in which they are loaded.
# What a kernel has built in is passed over.
DEVICE_APPLETS = "insmod lsmod ip udhcpc nc wget ping blockdev cmp".split()
MODULES = """virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci rng-core virtio-rng virtio_blk
    failover net_failover virtio_net virtio_console crc32c_generic crc16 mbcache jbd2 ext4
    drm drm_kms_helper ttm drm_ttm_helper drm_vram_helper bochs""".split()
LOAD_DRIVERS = b"""#!/bin/sh
# Loads the drivers of the machine's devices.
for module in /usr/lib/drivers/*.ko; do insmod "$module"; done
"""
DHCP_SCRIPT = b"""#!/bin/sh
# What udhcpc calls with the address it got.
[ "$1" = bound ] || exit 0
ip addr add "$ip/24" dev "$interface"
ip route add default via "$router"
"""


def add_drivers(image: Image, flavour: str) -> None:
    (package,) = fetch([concrete_kernel(f"linux-image-{flavour}")])
    wanted = {f"{name}.ko": name for name in MODULES}
    found = contents(package, lambda path: posixpath.basename(path) in wanted and "/modules/" in path)
    by_name = {wanted[posixpath.basename(path)]: node.data for path, node in found.items()}
    for number, name in enumerate(name for name in MODULES if name in by_name):
        image.write(f"usr/lib/drivers/{number:02}-{name}.ko", by_name[name])
    image.write("usr/bin/drivers", LOAD_DRIVERS, 0o755)
    image.write("etc/udhcpc/default.script", DHCP_SCRIPT, 0o755)


def kernel(flavour: str) -> Path:
    """The bzImage of linux-image-FLAVOUR."""
    (package,) = fetch([concrete_kernel(f"linux-image-{flavour}")])
    (found,) = contents(package, lambda path: path.startswith("boot/vmlinuz-")).items()
    return put("guest", posixpath.basename(found[0]), "", found[1].data)


def add_busybox(image: Image, applets: list[str]) -> None:
    image.add("bin/busybox")
    for applet in applets:
        image.link(f"usr/bin/{applet}", "busybox")
    for folder in ("proc", "sys", "tmp", "root", "run"):
        image.folder(folder)


def initrd(flavour: str, devices: bool) -> Path:
    image = Image(PACKAGES)
    image.add(*PROGRAMS)
    add_busybox(image, APPLETS + DEVICE_APPLETS * devices)
    if devices:
        add_drivers(image, flavour)
    for source in sorted((ROOT / "demo").iterdir()):
        place = {"init": "init", "inputrc": "etc/inputrc"}.get(source.name, f"usr/bin/{source.name}")
        image.write(place, source.read_bytes(), 0o755)
    return put("guest", "devices" if devices else "demo", ".cpio.zst", image.initramfs())


def demo_guest(flavour: str, refresh: bool, devices: bool = False) -> dict[str, str]:
    tools = [ROOT / "tools" / name for name in ("debian.py", "image.py", "guest.py")]
    sources = [*(ROOT / "demo").iterdir(), *tools]
    recipe = Recipe(f"{'devices' if devices else 'demo'}-{flavour}", sources, [flavour])
    with locked():
        made = None if refresh else recipe.made()
        if made is None:
            say(f"guest: making the demo guest (Debian's {flavour} kernel, initramfs of Debian programs)")
            made = recipe.remember({"kernel": kernel(flavour), "initrd": initrd(flavour, devices)})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev guest", description="Makes the demo guest if needed and prints its "
                                     "two files as kernel=PATH and initrd=PATH.")
    parser.add_argument("--kernel", choices=["cloud-amd64", "amd64"], default="cloud-amd64",
                        help="which of Debian's kernels (default: %(default)s)")
    parser.add_argument("--refresh", action="store_true", help="ask apt for newer packages")
    parser.add_argument("--devices", action="store_true",
                        help="with the drivers of the machine's devices in the initramfs, loaded by `drivers`")
    options = parser.parse_args()
    for name, path in demo_guest(options.kernel, options.refresh, options.devices).items():
        print(f"{name}={path}")


if __name__ == "__main__":
    sys.exit(main())
