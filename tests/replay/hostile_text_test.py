"""Recordings whose every text would steer a terminal or forge lines: it is shown, whatever command meets it."""
import json
import os
import re
import shutil
import subprocess
import unittest

from guest_session import DEJA, GUESTS, PROMPT, TIMEOUT, Recorder, ReplayTest

# Escape sequences, a line of its own, C1 in UTF-8 and alone, an override of the writing direction, no UTF-8.
EVIL = b"A\x1b[31m\x1b]0;t\x07\nFORGED\r\xc2\x9b2J\x9b2J\xc2\x85FORGED\x7f\xe2\x80\xae\xe2\x81\xa6\xff\xc3B\xc3\xa9"
IN_A_LINE = EVIL.replace(b"\n", b"")
STEERING = "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
# cc: XXH3-64 of standard input, which a manifest ends with.
XXH3 = r"""
#define XXH_INLINE_ALL
#include <stdio.h>
#include <xxhash.h>
static char all[1 << 20];
int main(void) { printf("%016llx", (unsigned long long)XXH3_64bits(all, fread(all, 1, sizeof all, stdin))); }
"""


class HostileText(ReplayTest):
    def assert_shown(self, output, what, tabs=False):
        """Nothing in it steers a terminal, and no line is anybody else's. A kernel's messages have tabs."""
        text = output.decode()  # an error: not UTF-8
        if tabs:
            text = text.replace("\t", " ")
        steering = re.search(STEERING, text.replace("\r\n", "\n"))
        self.assertIsNone(steering, f"{what}\n{text!r}")
        self.assertNotRegex(text, r"(?m)^FORGED", what)

    def run_deja(self, *arguments, status=(0, 1, 3), tabs=False):
        done = subprocess.run([DEJA, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT,
                              cwd=self.folder)
        self.assertIn(done.returncode, status, (arguments, done.stdout, done.stderr))
        for output in (done.stdout, done.stderr):
            self.assert_shown(output, arguments, tabs)
        return done

    def evil_manifest(self, path):
        """Each string that is for people only, with what is not UTF-8 as the format has it."""
        manifest = json.loads(path.read_bytes())
        evil = {"hex": EVIL.hex()}
        manifest["build"] = manifest["host"]["cpu"] = manifest["host"]["kernel"] = evil
        manifest["end"]["detail"] = evil
        manifest["parent"] = {"name": evil, "created_unix_ns": 1, "step": 1}
        for file in manifest["inputs"]:
            file["original_path"] = {"hex": (b"/nowhere/" + EVIL).hex()}
        del manifest["checksum"]
        # `parent` stands in front of `state`; otherwise the order is that of the file.
        order = {key: manifest[key] for key in manifest if key not in ("parent", "state", "end")}
        order.update({key: manifest[key] for key in ("parent", "state", "end")})
        body = json.dumps(order, indent=2)[:-2]
        program = self.folder / "xxh3"
        subprocess.run(["gcc", "-O1", "-x", "c", "-", "-o", program], input=XXH3.encode(), check=True)
        checksum = subprocess.run([program], input=body.encode(), capture_output=True, check=True).stdout.decode()
        path.write_text(body + f',\n  "checksum": "{checksum}"\n}}\n')

    def record(self):
        """Its kernel, command line, marks, directory and the rest are evil; the recorder's messages are looked at."""
        home = os.fsencode(self.folder)
        kernel = home + b"/kernel " + EVIL.replace(b"/", b"")
        shutil.copy(GUESTS / "listener", kernel)
        recorder = Recorder(self.recording, kernel=kernel, initrd=None, append=EVIL, memory="64M",
                            options=("--log", "guest-control,machine,guest"))
        at = recorder.expect(b"ready")
        for line in (b"mark " + IN_A_LINE, b"frobnicate " + IN_A_LINE, b"record start " + IN_A_LINE, b"mark good"):
            recorder.process.stdin.write(line + b"\nend\n"[:1])
            recorder.process.stdin.flush()
            at = recorder.expect(b"done", at)
        recorder.type("end\n")
        recorder.process.stdin.close()
        messages = recorder.process.stderr.read()
        recorder.process.stdout.read()
        self.assertEqual(recorder.process.wait(TIMEOUT), 1, messages)
        self.assertIn(b"frobnicate", messages)
        self.assert_shown(messages, "record")
        self.evil_manifest(self.recording / "manifest.json")
        where = home + b"/" + EVIL.replace(b"/", b"") + b".deja"
        os.rename(self.recording, where)
        return where

    def test_every_verb(self):
        rec = self.record()
        home = os.fsencode(self.folder)
        info = self.run_deja("info", rec, status=[0])
        self.assertIn(b"\\x1b[31m", info.stdout)
        self.assertIn("é".encode(), info.stdout, "what can be read stays")
        for row in (b"recording", b"made", b"host", b"kernel", b"command line", b"ended by"):
            self.assertRegex(info.stdout, rb"(?m)^" + row + rb" .*A\\x1b\[31m", info.stdout)
        parsed = json.loads(self.run_deja("info", "--json", rec, status=[0]).stdout)
        self.assertIn("\x1b[31m", parsed["inputs"][0]["path"])
        self.assertIn("\x1b[31m", parsed["path"])
        self.assertIn(b"\\x1b[31m", self.run_deja("ls", home, status=[0]).stdout)
        self.assertIn(b"mark", self.run_deja("dump", rec, status=[0]).stdout)
        self.run_deja("verify", rec, status=[0])
        self.run_deja("verify", rec, rec, status=[0])
        self.run_deja("replay", "--quiet", rec, status=[0])
        self.run_deja("replay", "--to", b"mark:" + IN_A_LINE, "--digest", rec, status=[0])
        for at in (b"mark:no " + EVIL, b"serial:\"" + EVIL + b"\"", EVIL, b"mark:good#7", b"-99s"):
            self.run_deja("replay", "--to", at, "--digest", rec, status=[1])
        self.run_deja("stats", rec, status=[0])
        self.run_deja("stats", "--json", rec, status=[0])
        self.run_deja("index", rec, status=[0])
        self.run_deja("bisect", rec, status=[0])
        out = home + b"/out " + EVIL.replace(b"/", b"")
        for what in ("memory", "vmcore", "pcap", "disk"):
            self.run_deja("export", rec, what, out + what.encode())
        self.run_deja("export", rec, "memory", b"/nowhere/" + EVIL, status=[1])
        self.run_deja("screenshot", rec, out, status=[1])
        self.run_deja("who-wrote", rec, "200000", "--as", "phys", status=[0])
        self.run_deja("who-wrote", "--json", rec, "200000", "--as", "phys", status=[0])
        self.run_deja("who-wrote", rec, EVIL, status=[1])
        self.run_deja("trim", rec, "-o", home + b"/cut", status=[0])
        self.assertIn(b"cut from A\\x1b", self.run_deja("info", home + b"/cut.deja", status=[0]).stdout)
        self.run_deja("trim", rec, "-o", home + b"/" + EVIL)
        self.run_deja("live", rec, "--serial", "none", "-o", home + b"/on", status=[1])
        self.run_deja("live", rec, "--nic", EVIL, status=[1])
        self.run_deja("pack", rec, "-o", out + b".dejavm", status=[0])
        self.run_deja("pack", rec, "-o", b"/nowhere/" + EVIL, status=[1])
        self.run_deja("unpack", out + b".dejavm", "-o", home + b"/again", status=[0])
        self.run_deja("unpack", out, status=[1])
        self.run_deja("debug", rec, "--", "-batch", "-ex", "when", "-ex", "seek mark:good", "-ex", "info processes",
                      "-ex", "monitor nothing \x1b[2J", "-ex", "info os processes", status=[0, 1])
        self.run_deja("rm", home + b"/" + EVIL)
        self.run_deja("rm", home + b"/no " + EVIL, status=[1])
        for wrong in (("info", EVIL), (EVIL,), ("info", b"--" + EVIL), ("help", EVIL), ("run", "--kernel", EVIL),
                      ("run", "--drive", EVIL), ("record", "--serial", EVIL, "--kernel", "x"), ("run", "--cpu", EVIL)):
            self.run_deja(*wrong, status=(1, 2))

    def test_errors_of_a_damaged_one(self):
        rec = self.record()
        for name in ("events.log", "manifest.json", "checkpoints.dat"):
            path = os.path.join(rec, name.encode())
            if not os.path.exists(path):
                continue
            with open(path, "rb") as file:
                whole = file.read()
            for at in (0, len(whole) // 2, len(whole) - 30):
                with open(path, "wb") as file:
                    file.write(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1:])
                for verb in (("info",), ("dump",), ("verify",), ("ls", os.fsencode(self.folder)),
                             ("replay", "--digest", "--to", "50%"), ("index",), ("trim",), ("pack",)):
                    self.run_deja(*verb, *([rec] if verb[0] != "ls" else []))
            with open(path, "wb") as file:
                file.write(whole)
        # A manifest that is no JSON, with the offending text in the parser's message.
        with open(os.path.join(rec, b"manifest.json"), "wb") as file:
            file.write(b'{"format_version": "' + EVIL + b'"}')
        for verb in ("info", "verify", "dump"):
            self.assertIn(b"manifest.json", self.run_deja(verb, rec, status=[1]).stderr)

    def test_what_a_linux_guest_says_of_itself(self):
        recorder, at = self.record_until_prompt()
        recorder.type("evil=$(printf '/tmp/busybox\\033[2JX'); cp $(command -v busybox) \"$evil\"; \"$evil\" sleep 1000 & "
                      "[ -e /dev/kmsg ] || mknod /dev/kmsg c 1 11; printf 'hello \\033]0;t\\007 \\302\\233there\\n' >/dev/kmsg; "
                      "until grep -q '^busybox' /proc/[0-9]*/comm; do :; done; echo all do''ne; deja-mark here\n")
        at = recorder.expect(b"all done", at)
        recorder.expect(PROMPT, at)
        self.power_off(recorder)
        done = self.run_deja("debug", "--at", "mark:here", self.recording, "--", "-batch", "-ex", "info processes",
                             "-ex", "info os processes", "-ex", "dmesg", status=[0], tabs=True)
        self.assertGreaterEqual(done.stdout.count(rb"busybox\x1b[2JX"), 2, done.stdout)
        self.assertIn(b"hello \\x1b]0;t\\x07", done.stdout)


if __name__ == "__main__":
    unittest.main()
