"""Bugs planted in bare-metal guests, found by going backward from where they show."""
import json
import re
import struct
import subprocess
import unittest

from gdb_session import GUESTS, TravelTest, deja


def bzimage(code):
    """A kernel image by Linux's boot protocol in which no Linux is packed, and whose last paragraph is not whole."""
    image = bytearray(1024 + 0x200) + code
    while len(image) % 16 != 8:
        image += b"\x90"
    paragraphs = (len(image) - 1024 + 15) // 16
    for at, form, value in ((0x1f1, "B", 1), (0x1f4, "I", paragraphs), (0x1fe, "H", 0xaa55), (0x200, "H", 0x6aeb),
                            (0x206, "H", 0x20f), (0x211, "B", 1), (0x22c, "I", 0x7fffffff), (0x236, "H", 1),
                            (0x238, "I", 255), (0x258, "Q", 1 << 24), (0x260, "I", 1 << 16)):
        struct.pack_into("<" + form, image, at, value)
    image[0x202:0x206] = b"HdrS"
    return bytes(image)


class BareMetal(TravelTest):
    def test_a_kernel_image_without_a_linux_is_debugged_without_symbols(self):
        # mov dx,3fbh; mov al,3; out dx,al; mov dx,3f8h; mov al,'K'; out dx,al; mov al,5; out f4h,al; jmp $
        kernel = self.folder / "kernel"
        kernel.write_bytes(bzimage(bytes.fromhex("66bafb03 b003 ee 66baf803 b04b ee b005 e6f4 ebfe")))
        self.assertEqual(self.record(kernel, "--boot", "bzimage"), "K")
        output = self.gdb("""
            when
            x/i $pc
            stepi 5
            print/c $al
            reverse-stepi
            print $step
            """)
        self.assert_shown(output, r"0x1000200\b", r"75 'K'", r"= 4$")
        vmlinux = deja("record", "-o", self.folder / "other", "-m", "64M", "--kernel", kernel)
        self.assertIn("--boot bzimage", vmlinux.stderr)

    def test_interrupt_handler_that_clobbers_a_register(self):
        self.assertIn("count is wrong", self.record("clobbered_register"))
        output = self.gdb(f"""
            file {GUESTS}/clobbered_register.elf
            seek end
            break complain
            reverse-continue
            info registers rbx
            watch $rbx
            reverse-continue
            reverse-continue
            backtrace 1
            """)
        self.assert_shown(output, r"Breakpoint 1, complain", r"^rbx .*\b60$", r"Watchpoint 2: \$rbx", r"Old value = 60$",
                          r"add +\$3, %rbx", r"Old value = 57$", r"lea +7\(%rax\), %ebx +// the bug")

    def test_gdb_begins_again_and_goes_back_to_places(self):
        self.record("clobbered_register")
        output = self.gdb(f"""
            file {GUESTS}/clobbered_register.elf
            break complain
            continue
            print $step
            checkpoint
            reverse-stepi
            checkpoint
            info checkpoints
            starti
            print $step
            restart 1
            print $step
            delete
            restart 2
            print $step
            break complain
            kill
            info threads
            run
            print $step
            """)
        self.assert_shown(output, r"Breakpoint 1, complain", r"^1: step", r"^2: step", r"Program stopped", r"\$2 = 0$", r"killed",
                          r"No threads", r"Breakpoint 2, complain")
        first, start, one, two, again = (int(n) for n in re.findall(r"\$\d = (\d+)", output))
        self.assertEqual((start, one, two, again), (0, first, first - 1, first))

    def test_ctrl_c_in_the_middle_of_a_long_search_backward(self):
        self.record("long_count")
        output = self.gdb(f"""
            file {GUESTS}/long_count.elf
            seek end
            print $step
            break *turn if $rax == 0x123456789abcdef0
            shell (sleep 2; kill -INT $PPID) >/dev/null 2>&1 &
            reverse-continue
            print $step
            stepi
            reverse-stepi
            print $step
            """)
        self.assert_shown(output, r"received signal SIGINT")
        end, here, again = (int(n) for n in re.findall(r"\$\d = (\d+)", output))
        self.assertTrue(0 < here <= end, output)
        self.assertEqual(here, again)

    def test_race_between_two_vcpus(self):
        self.assertIn("the letter is gone", self.record("race", "--smp", 2))
        output = self.gdb(f"""
            file {GUESTS}/race.elf
            seek end
            break put_string if s[0] == 't'
            reverse-continue
            backtrace 2
            watch mailbox
            reverse-continue
            info threads
            backtrace 1
            """)
        self.assert_shown(output, r"put_string \(s=.*the letter is gone", r"read_letter \(", r"hit Hardware watchpoint 2",
                          r"Old value = \(struct Letter \* volatile\) 0x0", r"New value = .*0x[1-9a-f]",
                          r"mailbox = 0;  // the bug", r"^\* 2 .*vCPU 1", r"collect \(\)")

    def test_watchpoints_of_any_length_on_the_same_bytes(self):
        self.record("race", "--smp", 2)
        # One write, and each of them shows the old and the new value of what it is on.
        output = self.gdb(f"""
            file {GUESTS}/race.elf
            seek end
            watch *(char (*)[100]) ((long) &mailbox - 40)
            watch mailbox
            watch *(char (*)[3]) &mailbox
            reverse-continue
            backtrace 1
            """)
        self.assert_shown(output, r"hit Hardware watchpoint 1: ", r"^Old value = ", r"hit Hardware watchpoint 2: mailbox",
                          r"^Old value = .* 0x0$", r"^New value = .* 0x[1-9a-f]\w+ ", r"hit Hardware watchpoint 3: ",
                          r"^Old value = ", r"mailbox = 0;  // the bug")

    def test_who_wrote_names_the_vcpu_the_instruction_and_the_values(self):
        self.record("race", "--smp", 2)
        symbols = subprocess.run(["nm", GUESTS / "race.elf"], capture_output=True, text=True, check=True).stdout
        mailbox = re.search(r"(\w+) B mailbox", symbols).group(1)
        (last,) = json.loads(deja("who-wrote", "--json", self.recording, mailbox + "/8").stdout)
        self.assertEqual((last["vcpu"], last["cpl"], last["cause"], last["new"]), (1, 0, "instruction", "00" * 8))
        self.assertEqual(last["before"] + 1, last["after"])
        for name in ("rip", "cr3", "physical"):  # readers of JSON may round larger numbers
            self.assertRegex(last[name], r"^0x[0-9a-f]+$")
        self.assertEqual(int(last["physical"], 16), int(mailbox, 16))
        self.assertRegex(last["instruction"], r"^mov qword ptr .*, 0x0")
        # All of them: each letter in turn, the first one into an empty box.
        writes = json.loads(deja("who-wrote", "--all", "--json", self.recording, mailbox).stdout)
        self.assertEqual(writes[-1], last)
        self.assertEqual([w["vcpu"] for w in writes], [0] * (len(writes) - 1) + [1])
        self.assertEqual(writes[0]["old"], "00" * 8)
        for earlier, later in zip(writes, writes[1:]):
            self.assertEqual(earlier["new"], later["old"])
        # Before the last write it was the one before it.
        (before,) = json.loads(deja("who-wrote", "--json", "--at", last["before"], self.recording, mailbox).stdout)
        self.assertEqual(before, writes[-2])
        text = deja("who-wrote", self.recording, mailbox, "--as", "phys").stdout
        self.assertRegex(text, r"^step [\d,]+: vCPU 1 kernel 0x\w+  mov qword ptr .* -> 0x0000000000000000$")

    def test_who_wrote_says_what_is_wrong(self):
        self.record("race", "--smp", 2)
        for arguments, message in ((["xyz"], "not an address"), (["1000/0"], "the length is 1 to"),
                                   (["ffff800000000000"], "is not mapped at step"), (["1000", "--as", "me"], "--as me"),
                                   (["1000", "--at", "99999999999"], "behind the end"),
                                   (["fffffffff000", "--as", "phys"], "is not RAM")):
            done = deja("who-wrote", self.recording, *arguments)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn(message, done.stderr)

    def test_reverse_stepi_is_undone_by_stepi(self):
        self.record("clobbered_register")
        # Across many interrupts, which single steps pass over both ways or show both ways.
        for mode in ("hide", "show"):
            output = self.gdb(f"""
                monitor interrupts {mode}
                seek 50%
                python
def state():
    return gdb.execute("info all-registers", to_string=True)
back = [state()]
for i in range(1000):
    gdb.execute("reverse-stepi", to_string=True)
    back.append(state())
print("different states", len(set(back)))
for i in range(1000, 0, -1):
    assert state() == back[i], (i, state(), back[i])
    gdb.execute("stepi", to_string=True)
assert state() == back[0], (state(), back[0])
print("all equal")
end
                """)
            self.assert_shown(output, r"different states 1001", r"all equal")


if __name__ == "__main__":
    unittest.main()
