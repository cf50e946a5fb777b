"""A framebuffer and a keyboard: what the guest draws is seen, at any moment of a recording; keys reach it."""
import socket
import struct
import time
import unittest
import zlib

from devices_test import devices_guest
from guest_session import PROMPT, ReplayTest, deja

WIDTH, HEIGHT = 640, 480
CELL = 8, 16  # of the kernel's font


def decode(path):
    """Rows of (red, green, blue), of a PNG with 8 bits a colour."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, header = 8, b"", None
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", data[at + 8:at + 8 + size])
        elif kind == b"IDAT":
            packed += data[at + 8:at + 8 + size]
        at += 12 + size
    width, height, depth, colours, *_ = header
    assert (depth, colours) == (8, 2)
    raw, rows, before = zlib.decompress(packed), [], bytes(3 * width)
    for y in range(height):
        start = y * (3 * width + 1)
        method, line = raw[start], bytearray(raw[start + 1:start + 1 + 3 * width])
        for i in range(len(line)):
            left = line[i - 3] if i >= 3 else 0
            corner = before[i - 3] if i >= 3 else 0
            if method == 1:
                line[i] = (line[i] + left) & 255
            elif method == 2:
                line[i] = (line[i] + before[i]) & 255
            elif method == 3:
                line[i] = (line[i] + (left + before[i]) // 2) & 255
            elif method == 4:
                guess = left + before[i] - corner
                line[i] = (line[i] + min((left, before[i], corner), key=lambda x: abs(guess - x))) & 255
        before = bytes(line)
        rows.append([tuple(line[3 * x:3 * x + 3]) for x in range(width)])
    return rows


def cells(rows):
    """The character cells in which anything is drawn, as (column, line)."""
    return {(x // CELL[0], y // CELL[1]) for y, row in enumerate(rows) for x, pixel in enumerate(row) if pixel != (0, 0, 0)}


class Screen(ReplayTest):
    def screenshot(self, name, at, *options):
        out = self.folder / name
        done = deja("screenshot", self.recording, out, "--at", at, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return out

    def monitor(self, *lines, pause=0.0):
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.recording / "monitor.sock"))
            answers = monitor.makefile("rb")
            for line in lines:
                monitor.sendall(f"{line}\n".encode())
                yield answers.readline().decode()
                time.sleep(pause)

    def sendkey(self, *keys):
        for answer in self.monitor(*(f"sendkey {key}" for key in keys), pause=0.05):
            self.assertEqual(answer, "ok\n")

    def check_screendump(self):
        """The same picture from the running machine as from its recording so far."""
        live, other = self.folder / "a live one.png", self.folder / "live.txt"
        answers = list(self.monitor("pause", f"screendump {live}", f"screendump {live}", f"screendump {other}", "resume"))
        self.assertRegex(answers[1], rf"^{live}: the screen at step \d+, {WIDTH}x{HEIGHT}\n$")
        self.assertRegex(answers[2], "error: .*exists")
        self.assertRegex(answers[3], "error: .*ends with .png")
        self.assertFalse(other.exists())
        rows = decode(live)
        self.assertEqual(cells(rows), {(column, 2) for column in range(4, 8)})
        self.assertEqual(decode(self.screenshot("so far.png", "end")), rows)

    def test_the_console_is_seen_and_the_keyboard_types(self):
        recorder, at = self.record_until_prompt(append="console=tty0 console=ttyS0",
                                                options=["--screen", f"{WIDTH}x{HEIGHT}"])
        # Nothing but four letters, in the third line.
        recorder.type(r"printf '\033c\033[?25l\033[3;5HHHHH' >/dev/tty1; echo dr''awn" "\n")
        at = recorder.expect(b"drawn", at)
        self.check_screendump()
        recorder.type("exec 3</dev/tty1; echo op''ened; read text <&3; echo \"typed: $text\"\n")
        at = recorder.expect(b"opened", at)
        self.sendkey("h", "i", "spc", "shift-a", "1", "ret")
        at = recorder.expect(b"typed: hi A1", at)
        self.power_off_and_verify(recorder, chaos=6)
        boot = decode(self.screenshot("boot.png", 'serial:"poweroff -f ends"'))
        self.assertEqual((len(boot[0]), len(boot)), (WIDTH, HEIGHT))
        self.assertGreater(len({line for _, line in cells(boot)}), 15, "the kernel's messages fill the screen")
        letters = self.screenshot("letters.png", 'serial:"drawn"')
        self.assertEqual(cells(decode(letters)), {(column, 2) for column in range(4, 8)})
        again = self.screenshot("again.png", 'serial:"drawn"', "--chaos-engine", "9")
        self.assertEqual(letters.read_bytes(), again.read_bytes())
        echoed = cells(decode(self.screenshot("echoed.png", "end")))
        self.assertTrue({(8, 2), (9, 2), (11, 2), (12, 2)} <= echoed, "hi and A1, echoed")
        self.assertNotIn((10, 2), echoed)

    def test_bochs_drm_takes_the_screen_over(self):
        guest = devices_guest("amd64")
        recorder, at = self.record_until_prompt(kernel=guest["kernel"], initrd=guest["initrd"],
                                                append="console=tty0 console=ttyS0", options=["--screen", f"{WIDTH}x{HEIGHT}"])
        recorder.type("cat /proc/fb; drivers; cat /proc/fb\n")
        at = recorder.expect(b"0 EFI VGA", at)
        at = recorder.expect(b"0 bochs-drmdrmfb", at)
        # The driver copies what was drawn a moment later.
        recorder.type(r"printf '\033c\033[?25l\033[3;5HHHHH' >/dev/tty1; sleep 1; echo dr''awn" "\n")
        recorder.expect(b"drawn", at)
        self.power_off_and_verify(recorder)
        letters = decode(self.screenshot("letters.png", 'serial:"drawn"'))
        self.assertEqual((len(letters[0]), len(letters)), (WIDTH, HEIGHT))
        self.assertEqual(cells(letters), {(column, 2) for column in range(4, 8)})

    def test_screens_that_cannot_be_are_named(self):
        self.assert_clean_error(deja("run", "--kernel", "x", "--screen", "10x10"), "screen 10x10", "1024x768")
        self.assert_clean_error(deja("run", "--kernel", "x", "--screen", "4096x4096"), "1920x1080")
        recorder, _ = self.record_until_prompt()
        recorder.type("poweroff -f\n")
        recorder.finish()
        self.assert_clean_error(deja("screenshot", self.recording, self.folder / "x.png"), "has no screen", "--screen")


if __name__ == "__main__":
    unittest.main()
