"""Disks, network, console and entropy with Debian's kernel and drivers: recorded, and replayed without any of them."""
import functools
import hashlib
import http.server
import os
import random
import shutil
import socket
import struct
import subprocess
import threading
import time
import unittest
from pathlib import Path

from guest_session import DEJA, GUESTS, KERNEL, PROMPT, TIMEOUT, Recorder, ReplayTest, deja

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def devices_guest(kernel="cloud-amd64"):
    """The demo guest with drivers."""
    lines = subprocess.run([ROOT / "dev", "guest", "--devices", "--kernel", kernel], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in lines.splitlines())


class Devices(ReplayTest):
    def start(self, *options):
        guest = devices_guest()
        recorder = Recorder(self.recording, options=options, kernel=guest["kernel"], initrd=guest["initrd"])
        self.addCleanup(recorder.process.kill)
        at = recorder.expect(PROMPT)
        recorder.type("drivers; echo loa''ded\n")
        return recorder, recorder.expect(b"loaded", at)

    def image(self, name="disk.raw", size=1 << 20):
        path = self.folder / name
        path.write_bytes(random.Random(name).randbytes(size))
        return path, hashlib.sha256(path.read_bytes()).hexdigest()

    def test_a_disk_is_read_written_and_left_alone(self):
        path, digest = self.image()
        recorder, at = self.start("-drive", f"file={path},if=virtio,format=raw")
        recorder.type("sha256sum /dev/vda\n")
        at = recorder.expect(digest.encode(), at)
        recorder.type("echo over''written | dd of=/dev/vda bs=512 seek=7 conv=notrunc 2>/dev/null; sync\n")
        recorder.type("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=512 skip=7 count=1 2>/dev/null | head -c 11\n")
        recorder.expect(b"overwritten", at)
        messages = self.power_off(recorder)
        self.assertIn(f"deja export {self.recording} disk FILE", messages, "where to find what was written")
        self.assertNotIn("deja live", messages, "which cannot go on from a machine that is off")
        self.assertEqual(hashlib.sha256(path.read_bytes()).hexdigest(), digest, "the image is never written")
        self.assert_identical()
        self.assert_identical("--chaos-engine", 3)
        content = path.read_bytes()
        for at, expected in (("start", content),
                             ("end", content[:7 * 512] + b"overwritten\n" + content[7 * 512 + 12:])):
            exported = self.folder / at
            done = deja("export", self.recording, "disk", "--at", at, exported)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(exported.read_bytes(), expected)
        self.assert_clean_error(deja("export", self.recording, "disk", "--drive", "1", self.folder / "x"), "no drive 1")
        self.assert_clean_error(deja("export", self.recording, "pcap", self.folder / "x"), "no network card")

    def test_a_changed_image_is_refused_and_the_same_content_is_not(self):
        path, _ = self.image()
        recorder, _ = self.start("-drive", f"file={path},if=virtio")
        self.power_off(recorder)
        content = path.read_bytes()
        path.write_bytes(b"x" + content[1:])
        self.assert_clean_error(deja("verify", self.recording), "disk.raw", "not the one that was recorded")
        path.unlink()
        self.assert_clean_error(deja("verify", self.recording), "drive0", "missing")
        path.write_bytes(content)
        self.assert_identical()

    def test_an_image_that_changes_during_the_run_is_told(self):
        path, _ = self.image()
        recorder, _ = self.start("-drive", f"file={path},if=virtio")
        replacement, _ = self.image("other.raw")
        os.replace(replacement, path)
        recorder.type("poweroff -f\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 1, messages)
        self.assertRegex(messages, "disk.raw.*(removed|changed) or replaced while it was in use.*cannot be replayed")
        self.assert_clean_error(deja("verify", self.recording), "disk.raw")

    def test_an_image_that_vanishes_during_the_run_is_told(self):
        path, _ = self.image()
        recorder, at = self.start("-drive", f"file={path},if=virtio")
        content = path.read_bytes()
        path.unlink()
        recorder.type("sha256sum /dev/vda\n")
        recorder.expect(hashlib.sha256(content).hexdigest().encode(), at)
        recorder.type("poweroff -f\n")
        status, messages = recorder.finish()
        self.assertEqual(status, 1, messages)
        self.assertRegex(messages, "disk.raw")
        path.write_bytes(content)
        self.assert_identical()

    @unittest.skipUnless(shutil.which("mke2fs"), "mke2fs is not installed")
    def test_what_is_discarded_is_gone(self):
        tree = self.folder / "tree"
        tree.mkdir()
        (tree / "large").write_bytes(random.Random(3).randbytes(6 << 20))
        (tree / "small").write_text("still here")
        system = self.folder / "system.raw"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "nodiscard", "-d", tree, system, "16M"], check=True)
        path, digest = self.image(size=4 << 20)
        recorder, at = self.start("-drive", f"file={system},if=virtio", "-drive", f"file={path},if=virtio")
        recorder.type("mount -t ext4 /dev/vda /tmp; rm /tmp/large; sync; /bin/busybox fstrim -v /tmp; cat /tmp/small; umount /tmp\n")
        at = recorder.expect(b"still here", at)
        self.assertRegex(recorder.output[:at], rb"/tmp: \d{7,8} bytes")
        recorder.type("/bin/busybox blkdiscard -o 1048576 -l 2097152 /dev/vdb; echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/vdb\n")
        content = bytearray(path.read_bytes())
        content[1 << 20:3 << 20] = bytes(2 << 20)
        recorder.expect(hashlib.sha256(content).hexdigest().encode(), at)
        self.power_off(recorder)
        self.assertEqual(hashlib.sha256(path.read_bytes()).hexdigest(), digest, "the image is never written")
        self.assert_identical()
        self.assert_identical("--chaos-engine", 3)
        trimmed = self.folder / "trimmed"
        for drive, exported in ((0, trimmed), (1, self.folder / "discarded")):
            done = deja("export", self.recording, "disk", "--drive", drive, exported)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.folder / "discarded").read_bytes(), content)
        self.assertNotIn((tree / "large").read_bytes()[1 << 20:(1 << 20) + 4096], trimmed.read_bytes())
        checked = subprocess.run(["e2fsck", "-fn", trimmed], capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    @unittest.skipUnless(shutil.which("mke2fs"), "mke2fs is not installed")
    def test_a_disk_with_large_sectors(self):
        tree = self.folder / "tree"
        tree.mkdir()
        (tree / "name").write_text("found on the disk")
        image = self.folder / "large.raw"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", tree, image, "16M"], check=True)
        recorder, at = self.start("-drive", f"file={image},if=virtio,logical_block_size=4096,physical_block_size=16384")
        recorder.type("cat /sys/block/vda/queue/logical_block_size /sys/block/vda/queue/physical_block_size /sys/block/vda/size\n")
        at = recorder.expect(b"4096\r\n16384\r\n32768\r\n", at)
        recorder.type("mount -t ext4 /dev/vda /tmp; cat /tmp/name; echo writ''ten >/tmp/name; umount /tmp; mount -t ext4 /dev/vda /tmp; cat /tmp/name\n")
        at = recorder.expect(b"written", recorder.expect(b"found on the disk", at))
        recorder.type("umount /tmp; blockdev --getss /dev/vda; dd if=/dev/vda bs=512 skip=3 count=1 2>/dev/null | wc -c\n")
        recorder.expect(b"4096\r\n512\r\n", at)
        self.power_off_and_verify(recorder)
        path, _ = self.image(size=(1 << 20) + 512)
        for wrong, words in ((f"file={path},logical_block_size=4096", "is no multiple of logical_block_size=4096"),
                             (f"file={image},logical_block_size=4095", "a power of two from 512 to 4096"),
                             (f"file={image},logical_block_size=8192", "a power of two from 512 to 4096"),
                             (f"file={image},logical_block_size=4096,physical_block_size=512", "physical_block_size=512")):
            self.assert_clean_error(deja("run", "--kernel", GUESTS / "power_off", "--drive", wrong), words)

    def test_ipv6_is_forwarded(self):
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            port = probe.getsockname()[1]
        recorder, at = self.start("-nic", f"user,hostfwd=tcp:[::1]:{port}-:7,net=192.168.76.0/24,dns=192.168.76.53")
        recorder.type("ip link set eth0 up; udhcpc -q -i eth0 2>/dev/null; ip addr show eth0\n")
        at = recorder.expect(b"inet 192.168.76.15/24", at)
        recorder.type("until ip addr show eth0 | grep 'inet6 fec0:'; do sleep 1; done; nc -l -p 7 -e /bin/cat & sleep 5; echo list''ening\n")
        at = recorder.expect(b"listening", recorder.expect(b"inet6 fec0:", at))
        with socket.create_connection(("::1", port), timeout=60) as connection:
            connection.sendall(b"through the forwarded port\n")
            self.assertEqual(connection.makefile("rb").readline(), b"through the forwarded port\n")
        self.power_off_and_verify(recorder)

    def start_with_network(self):
        """Also returns the port of the host that leads to the guest's port 7."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        recorder, at = self.start("-nic", f"user,hostfwd=tcp::{port}-:7")
        recorder.type("ip link set eth0 up; udhcpc -q -i eth0 2>/dev/null; ip addr show eth0\n")
        return recorder, recorder.expect(b"inet 10.0.2.15/24", at), port

    def connect_and_hear(self, port, data):
        """A connection on which the guest has answered; it refuses some while it starts its server again."""
        for _ in range(100):
            connection = socket.create_connection(("127.0.0.1", port), timeout=60)
            try:
                connection.sendall(data)
                if connection.recv(4):
                    return connection
            except (ConnectionResetError, BrokenPipeError):
                pass
            connection.close()
            time.sleep(0.1)
        self.fail("the guest does not answer")

    def test_connections_that_are_reset_harm_nobody(self):
        recorder, at, port = self.start_with_network()
        recorder.type("while true; do nc -l -p 7 -e /bin/cat; echo one mo''re; done &\nsleep 1; echo list''ening\n")
        at = recorder.expect(b"listening", at)
        for _ in range(3):
            connection = self.connect_and_hear(port, b"half a li")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()  # with RST
            at = recorder.expect(b"one more", at)
        self.power_off_and_verify(recorder)

    def test_a_recording_is_packed_with_its_image_or_without(self):
        path, _ = self.image()
        done = deja("record", "-o", self.recording, "-m", "64M", "--kernel", GUESTS / "power_off", "--drive", f"file={path}")
        self.assertEqual(done.returncode, 0, done.stderr)
        content = path.read_bytes()
        packed = {}
        for way in ("with", "without"):
            self.assertEqual(deja("pack", f"--{way}-base", "-o", self.folder / f"{way}.dejavm", self.recording).returncode, 0)
            packed[way] = self.folder / f"{way}.deja"
            self.assertEqual(deja("unpack", "-o", packed[way], self.folder / f"{way}.dejavm").returncode, 0)
        path.unlink()
        self.assertIn("identical", deja("verify", packed["with"]).stdout)
        self.assert_clean_error(deja("verify", packed["without"]), "drive0", "missing")
        own = packed["with"] / "inputs" / f"sha256-{hashlib.sha256(content).hexdigest()}"
        own.write_bytes(b"x" + content[1:])
        self.assert_clean_error(deja("verify", packed["with"]), own.name, "damaged")
        path.write_bytes(content)
        self.assertIn("identical", deja("verify", packed["without"]).stdout)

    def test_a_read_only_disk_refuses_writes(self):
        path, _ = self.image()
        recorder, at = self.start("-drive", f"file={path},if=virtio,readonly")
        recorder.type("blockdev --getro /dev/vda; echo x | dd of=/dev/vda 2>&1 | head -1\n")
        recorder.expect(b"Operation not permitted", at)
        self.power_off_and_verify(recorder)

    def test_http_both_ways_is_replayed_without_a_network(self):
        served = self.folder / "served"
        served.mkdir()
        data = random.Random(1).randbytes(300_000)
        (served / "file").write_bytes(data)
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
        handler.log_message = lambda *_: None
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        recorder, at, port = self.start_with_network()
        recorder.type(f"wget -q -O - http://10.0.2.2:{server.server_port}/file | sha256sum\n")
        at = recorder.expect(hashlib.sha256(data).hexdigest().encode(), at)
        recorder.type("nc -l -p 7 -e /bin/cat & sleep 1; echo list''ening\n")
        at = recorder.expect(b"listening", at)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"through the forwarded port\n")
            self.assertEqual(connection.makefile("rb").readline(), b"through the forwarded port\n")
        self.power_off(recorder)
        server.shutdown()
        self.assert_identical()
        pcap = self.folder / "traffic.pcapng"
        done = deja("export", self.recording, "pcap", pcap)
        self.assertEqual(done.returncode, 0, done.stderr)
        traffic = pcap.read_bytes()
        self.assertEqual(traffic[:12], bytes.fromhex("0a0d0d0a1c0000004d3c2b1a"))
        self.assertIn(b"GET /file HTTP/1.1", traffic, "sent")
        self.assertIn(b"through the forwarded port", traffic, "received")
        self.assertIn(data[:1000], traffic)
        self.assert_identical("--chaos-engine", 5)

    def test_a_session_that_goes_on_is_connected_anew(self):
        served = self.folder / "served"
        served.mkdir()
        (served / "file").write_bytes(random.Random(9).randbytes(100_000))
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        recorder, *_ = self.start_with_network()
        recorder.type("\x01x")
        recorder.finish()
        branch = self.folder / "branch.deja"
        fetch = f"wget -q -O - http://10.0.2.2:{server.server_port}/file | sha256sum; poweroff -f\n"
        done = subprocess.run([DEJA, "live", self.recording, "--nic", "user", "-o", branch], input=fetch.encode(),
                              capture_output=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stderr)
        digest = hashlib.sha256((served / "file").read_bytes()).hexdigest()
        self.assertIn(digest, done.stdout.decode(errors="replace"))
        self.assert_clean_error(deja("live", self.recording, "--nic", "user,mac=52:54:00:00:00:01", "-o", "./no"),
                                "cannot be changed")
        self.recording = branch
        self.assert_identical()

    def test_a_machine_without_a_card_is_not_connected(self):
        deja("record", "-o", self.recording, "-m", "64M", "--kernel", GUESTS / "power_off")
        self.assert_clean_error(deja("live", self.recording, "--at", "start", "--nic", "user"), "without a network card")

    def test_a_forwarded_port_in_use_is_named(self):
        guest = devices_guest()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = deja("run", "--kernel", guest["kernel"], "-nic", f"user,hostfwd=tcp::{port}-:22")
        self.assert_clean_error(done, f"port {port}", "in use")
        self.assertFalse(os.path.exists(self.recording))

    @unittest.skipUnless(shutil.which("mke2fs"), "mke2fs is not installed")
    def test_an_image_alone_starts_the_kernel_on_it(self):
        tree = self.folder / "tree"
        tree.mkdir()
        shutil.copy(KERNEL, tree / "vmlinuz")
        shutil.copy(devices_guest()["initrd"], tree / "initrd.img")
        (tree / "name").write_text("found on the disk")
        image = self.folder / "system.raw"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image, "64M"], check=True)
        recorder = Recorder(self.recording, append="quiet", options=[image], kernel=None, initrd=None)
        self.addCleanup(recorder.process.kill)
        at = recorder.expect(PROMPT)
        recorder.type("drivers; mount -t ext4 /dev/vda /tmp; cat /tmp/name /proc/cmdline\n")
        at = recorder.expect(b"found on the disk", at)
        recorder.expect(b"root=/dev/vda console=ttyS0 quiet", at)
        self.power_off_and_verify(recorder)
        self.assert_clean_error(deja("run", "--firmware", "none", self.image()[0]), "no kernel was found on it")
        self.assert_clean_error(deja("run", KERNEL), "looks like a Linux kernel, which --kernel takes")
        # A guest can write what looks like one to its disk.
        self.assert_clean_error(deja("run", "--firmware", "none", "--drive", f"file={KERNEL},format=raw"), "no kernel was found on it")

    def test_console_and_entropy(self):
        log = self.folder / "console"
        recorder, at = self.start("--console", f"file:{log}", "--rng-seed", "0123")
        recorder.type("head -c 8 /dev/hwrng | od -An -tx1; echo from the guest >/dev/hvc0; sleep 1\n")
        recorder.expect(PROMPT, at)
        self.power_off(recorder)
        self.assertIn("from the guest", log.read_text())
        self.assert_identical()


if __name__ == "__main__":
    unittest.main()
