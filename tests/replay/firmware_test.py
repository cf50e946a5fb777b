"""Starting as hardware does: SeaBIOS or OVMF, GRUB from the disk, and the kernel that GRUB loads."""
import hashlib
import shutil
import struct
import subprocess
import unittest
from pathlib import Path

from guest_session import INITRD, KERNEL, PROMPT, Recorder, ReplayTest, deja

SEABIOS = Path("/usr/share/seabios/bios-256k.bin")
GRUB = Path("/usr/lib/grub/i386-pc")
OVMF = Path("/usr/share/ovmf/OVMF.fd")
EFI_GRUB = Path("/usr/lib/grub/x86_64-efi")
PARTITION_START = 1 << 20
MENU = """
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
menuentry "The demo guest" {
  linux /vmlinuz console=ttyS0
  initrd /initrd.img
}
"""


def grub_disk(folder, kernel="vmlinuz"):
    """A disk as an installer leaves it: GRUB before the one partition, which has kernel and menu."""
    tree = folder / "tree"
    (tree / "boot/grub").mkdir(parents=True)
    shutil.copy(KERNEL, tree / kernel)
    shutil.copy(INITRD, tree / "initrd.img")
    (tree / "boot/grub/grub.cfg").write_text(MENU.replace("vmlinuz", kernel))
    system, core, disk = folder / "system", folder / "core", folder / "disk.raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, system, "48M"], check=True)
    subprocess.run(["grub-mkimage", "-O", "i386-pc", "-o", core, "-p", "(hd0,msdos1)/boot/grub", "biosdisk", "part_msdos",
                    "ext2", "normal", "linux", "serial", "terminal"], check=True)
    code = (GRUB / "boot.img").read_bytes()[:440]
    write_disk(disk, code, core.read_bytes(), 0x83, system)
    return disk


def write_disk(disk, code, core, kind, system):
    """One partition of this kind; in front of it the table, and what a BIOS starts."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\xff" * 3, kind, b"\xff" * 3, PARTITION_START // 512, system.stat().st_size // 512)
    start = code.ljust(446, b"\0") + entry + bytes(48) + b"\x55\xaa" + core
    disk.write_bytes(start.ljust(PARTITION_START, b"\0") + system.read_bytes())


def esp_disk(folder):
    """A disk with nothing but an EFI system partition, which has GRUB, its menu and the kernel."""
    (folder / "grub.cfg").write_text(MENU)
    program, esp, disk = folder / "grub.efi", folder / "esp", folder / "disk.raw"
    subprocess.run(["grub-mkimage", "-O", "x86_64-efi", "-o", program, "-p", "/boot/grub", "part_msdos", "fat", "normal",
                    "linux", "serial", "terminal", "efi_gop"], check=True)
    with open(esp, "wb") as file:
        file.truncate(40 << 20)
    subprocess.run(["mkfs.vfat", "-F", "16", esp], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mmd", "-i", esp, "::/EFI", "::/EFI/BOOT", "::/boot", "::/boot/grub"], check=True)
    for source, target in ((program, "EFI/BOOT/BOOTX64.EFI"), (folder / "grub.cfg", "boot/grub/grub.cfg"),
                           (KERNEL, "vmlinuz"), (INITRD, "initrd.img")):
        subprocess.run(["mcopy", "-i", esp, source, f"::/{target}"], check=True)
    write_disk(disk, b"", b"", 0xef, esp)
    return disk


@unittest.skipUnless(SEABIOS.exists() and GRUB.exists() and shutil.which("grub-mkimage"), "no seabios or grub-pc-bin")
class Firmware(ReplayTest):
    def boot(self, *options):
        disk = grub_disk(self.folder)
        recorder = Recorder(self.recording, append=None, kernel=None, options=["--drive", f"file={disk},format=raw", *options])
        self.addCleanup(recorder.process.kill)
        at = recorder.expect(b"SeaBIOS")
        at = recorder.expect(b"Booting from Hard Disk", at)
        at = recorder.expect(b"Linux version", at)
        recorder.expect(PROMPT, at)
        return recorder

    def test_seabios_and_grub_start_a_disk(self):
        recorder = self.boot("--firmware", "seabios")
        at = len(recorder.output)
        recorder.type("cat /proc/cmdline; dmesg | grep -c 'ACPI: [RXFDAM]'; cat /proc/iomem | grep -c PCI\n")
        at = recorder.expect(b"BOOT_IMAGE=/vmlinuz console=ttyS0", at)
        self.power_off_and_verify(recorder, chaos=4)
        # The firmware is an input like a kernel.
        digest = hashlib.sha256(SEABIOS.read_bytes()).hexdigest()
        kept = self.recording / "inputs" / f"sha256-{digest}"
        self.assertTrue(kept.exists())
        kept.chmod(0o600)
        kept.write_bytes(b"x" + kept.read_bytes()[1:])
        self.assert_clean_error(deja("verify", self.recording), "not the firmware that was recorded", digest)

    def test_an_image_alone_starts_through_firmware_when_its_kernel_is_nowhere_usual(self):
        disk = grub_disk(self.folder, kernel="kernel")
        recorder = Recorder(self.recording, append=None, kernel=None, options=[str(disk)])
        self.addCleanup(recorder.process.kill)
        at = recorder.expect(b"SeaBIOS")
        at = recorder.expect(b"BOOT_IMAGE=/kernel", at)
        recorder.expect(PROMPT, at)
        self.power_off_and_verify(recorder)

    def test_several_processors_and_a_reset_under_firmware(self):
        recorder = self.boot("-bios", str(SEABIOS), "-smp", "2")
        at = len(recorder.output)
        recorder.type("grep -c ^processor /proc/cpuinfo; reboot -f\n")
        at = recorder.expect(b"2\r\n", at)
        at = recorder.expect(b"SeaBIOS", at)
        at = recorder.expect(PROMPT, at)
        self.power_off_and_verify(recorder)

    def test_what_does_not_go_with_firmware_is_named(self):
        self.assert_clean_error(deja("run", "--firmware", "seabios", "--kernel", KERNEL), "--firmware seabios", "--kernel")
        self.assert_clean_error(deja("run", "--firmware", self.folder / "no"), "firmware", "no such file")
        self.assert_clean_error(deja("run", "--firmware", "/etc/passwd"), "firmware image has 64 KiB")


@unittest.skipUnless(OVMF.exists() and EFI_GRUB.exists() and shutil.which("mkfs.vfat") and shutil.which("mcopy"),
                     "no ovmf, grub-efi-amd64-bin, dosfstools or mtools")
class Uefi(ReplayTest):
    def test_ovmf_and_grub_start_a_disk_from_its_esp(self):
        disk = esp_disk(self.folder)
        recorder = Recorder(self.recording, append=None, kernel=None,
                            options=["--firmware", "ovmf", "--drive", f"file={disk},format=raw", "-smp", "2",
                                     "--screen", "1024x768"])
        self.addCleanup(recorder.process.kill)
        at = recorder.expect(b"BdsDxe: starting Boot")
        at = recorder.expect(b"Linux version", at)
        at = recorder.expect(PROMPT, at)
        recorder.type("cat /proc/cmdline; dmesg | grep -o 'efifb: mode is .*32'; grep -c ^processor /proc/cpuinfo\n")
        at = recorder.expect(b"BOOT_IMAGE=/vmlinuz console=ttyS0", at)
        recorder.expect(b"efifb: mode is 1024x768x32\r\n2\r\n", at)
        self.power_off_and_verify(recorder)


if __name__ == "__main__":
    unittest.main()
