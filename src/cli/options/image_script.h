// The part of making an image that runs inside the new system's namespace, as mmdebstrap's customize hook:
// sets the system up, removes what differs between two builds, and packs it into a file system.
#pragma once

namespace deja {

inline constexpr char kImageScript[] = R"script(#!/bin/sh
# Called by mmdebstrap with the root of the new system, as (a namespace's) root; see verbs/image.cc.
set -eu
export root=$1
echo "$HOST" >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\t%s\n' "$HOST" >"$root/etc/hosts"
printf '/dev/vda1 / ext4 errors=remount-ro 0 1\n' >"$root/etc/fstab"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/80-dhcp.network"
rm -f "$root/etc/resolv.conf"
printf 'nameserver 10.0.2.3\n' >"$root/etc/resolv.conf"
# Keys of the host are made at the first start: an image with the same keys for everybody would be none.
cat >"$root/etc/systemd/system/ssh-host-keys.service" <<'UNIT'
[Unit]
Description=Make the host keys of ssh
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
[Install]
WantedBy=multi-user.target
UNIT
chroot "$root" systemctl -q enable systemd-networkd ssh-host-keys
rm -f "$root"/etc/ssh/ssh_host_*
chroot "$root" passwd -q -d root
chroot "$root" useradd -m -s /bin/bash "$LOGIN"
chroot "$root" passwd -q -d "$LOGIN"
if [ -n "$SSH_KEY" ]; then
  for home in root "home/$LOGIN"; do
    mkdir -p -m 700 "$root/$home/.ssh"
    printf '%s\n' "$SSH_KEY" >"$root/$home/.ssh/authorized_keys"
    chown -R --reference="$root/$home" "$root/$home/.ssh"
  done
fi
# docs/guest-control.md
cat >"$root/usr/local/bin/deja-mark" <<'MARK'
#!/bin/sh
# deja-mark TEXT: notes this moment in the recording; it is then the position mark:TEXT.
# --exit [N] switches the machine off with that status; --start [NAME] begins a recording, --stop ends it. For root.
case ${1-} in
  --exit) line="exit ${2:-0}" ;;
  --start) line="record start ${2-}" ;;
  --stop) line="record stop" ;;
  *) line="mark $*" ;;
esac
printf '%.95s\n' "$line" | dd of=/sys/bus/pci/devices/0000:00:00.0/config bs=1 seek=160 conv=notrunc 2>/dev/null
MARK
chmod 755 "$root/usr/local/bin/deja-mark"
# An initramfs with nothing but what this machine needs: it is unpacked by the guest's CPU.
printf 'MODULES=list\nCOMPRESS=zstd\nFSTYPE=ext4\n' >"$root/etc/initramfs-tools/conf.d/deja"
printf 'virtio_pci\nvirtio_blk\next4\n' >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u -k all >/dev/null
# GRUB for BIOS: the MBR's code and its core image with all modules that it needs, for whoever writes the disk.
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<'GRUB'
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=1
menuentry "Debian GNU/Linux" {
  linux /vmlinuz root=/dev/vda1 ro console=ttyS0
  initrd /initrd.img
}
GRUB
chroot "$root" grub-mkimage -O i386-pc -o /tmp/core.img -p '(hd0,msdos1)/boot/grub' \
  biosdisk part_msdos ext2 normal linux serial terminal configfile echo minicmd reboot halt
cat "$root/usr/lib/grub/i386-pc/boot.img" "$root/tmp/core.img" >"$LOADER"
# And GRUB for UEFI, where firmware looks on disks that it knows nothing of.
chroot "$root" grub-mkimage -O x86_64-efi -o /tmp/grub.efi -p '(hd0,msdos1)/boot/grub' \
  part_msdos ext2 normal linux serial terminal configfile echo minicmd reboot halt efi_gop
truncate -s "$ESP_BYTES" "$ESP"
mkfs.vfat --invariant -F 12 -i 64656a61 -n ESP "$ESP" >/dev/null
export TZ=UTC MTOOLS_SKIP_CHECK=1
mmd -i "$ESP" ::/EFI ::/EFI/BOOT
mcopy -i "$ESP" "$root/tmp/grub.efi" ::/EFI/BOOT/BOOTX64.EFI
# What differs from one build to the next, and what nobody needs.
: >"$root/etc/machine-id"
ln -sf /etc/machine-id "$root/var/lib/dbus/machine-id"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
  "$root"/var/log/* "$root"/var/cache/ldconfig/aux-cache "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old \
  "$root"/tmp/* "$root"/var/lib/systemd/random-seed "$root"/etc/*- "$root"/var/lib/initramfs-tools/* \
  "$root"/boot/*.old* "$root"/run/* "$root"/etc/resolv.conf.dpkg*
# Without what mmdebstrap has mounted there: this mount namespace is our own.
unshare --mount sh -eu <<'INNER'
for mounted in $(sed 's/\\040/ /g' /proc/self/mounts | cut -d' ' -f2 | grep "^$root/" | sort -r); do umount -l "$mounted"; done
find "$root" -xdev -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
rm -f "$FS"
truncate -s "$FS_BYTES" "$FS"
mke2fs -q -t ext4 -L root -U 6a0e2b52-6d5c-4d0e-9a6f-64656a613132 \
  -E hash_seed=6a0e2b52-6d5c-4d0e-9a6f-64656a613132,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0 \
  -d "$root" "$FS"
# mke2fs takes over when an inode was changed and last read, which nobody can set on the host.
last=$(dumpe2fs -h "$FS" 2>/dev/null | awk '/^Inode count/ { all = $3 } /^Free inodes/ { free = $3 } END { print all - free }')
{ echo 2; seq 11 "$last"; } | awk -v time="@$SOURCE_DATE_EPOCH" '{
  for (i = split("atime ctime crtime", field); i; i--) {
    print "set_inode_field <" $1 "> " field[i] " " time
    print "set_inode_field <" $1 "> " field[i] "_extra 0"
  }
}' | debugfs -w -f - "$FS" >/dev/null 2>&1
INNER
)script";

}  // namespace deja
