"""Bugs in programs on Debian's kernel, found by going backward from where they show."""
import json
import os
import re
import subprocess
import unittest
from pathlib import Path

from gdb_session import DEJA, GUESTS, TIMEOUT, TravelTest, deja
from kernel_module import build_module, fetch

from image import with_files  # kernel_module names tools/

KERNEL = os.environ["DEJA_KERNEL"]
INITRD = os.environ["DEJA_INITRD"]


class Linux(TravelTest):
    def record_programs(self, commands, files, *options, append="console=ttyS0"):
        """Boots the demo guest with `files` added, and runs `commands` at its prompt; the console's text."""
        initrd = self.folder / "initrd"
        initrd.write_bytes(with_files(Path(INITRD).read_bytes(), files))
        with subprocess.Popen([DEJA, "record", "-o", self.recording.with_suffix(""), "-m", "256M", "--kernel", KERNEL,
                               "--initrd", initrd, "--append", append, *options], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as recorder:
            output = b""
            while b"demo# " not in output:
                data = os.read(recorder.stdout.fileno(), 65536)
                self.assertTrue(data, output)
                output += data
            rest, _ = recorder.communicate((commands + "; poweroff -f\n").encode(), timeout=TIMEOUT)
        return (output + rest).decode(errors="replace")

    def test_use_after_free_by_another_process(self):
        program = GUESTS / "shared_pool"
        console = self.record_programs("shared_pool", {"usr/bin/shared_pool": program.read_bytes()})
        self.assertIn("somebody else has my object: cleaner", console[-1000:])
        output = self.gdb("""
            seek end
            break complain
            reverse-continue
            print object->name
            print &object->generation
            watch -location object->generation
            reverse-continue
            backtrace 3
            """, "--symbols", program)
        self.assert_shown(output, r"hit Breakpoint 1, complain|Breakpoint 1, complain", r'"cleaner"',
                          r"Hardware watchpoint 2: -location object->generation", r"Old value = 2", r"New value = 1",
                          r"take \(name=.*cleaner", r"clean_up \(")
        # The same without gdb: from where the pool is in the process that wrote last.
        at = re.search(r"\(int \*\) 0x(7\w+)", output).group(1)
        when = deja("debug", self.recording, "--symbols", program, "--", "-nx", "-batch", "-ex", "break complain",
                    "-ex", "seek end", "-ex", "reverse-continue", "-ex", "print $step").stdout
        (write,) = json.loads(deja("who-wrote", "--json", "--symbols", program, "--at", re.search(r"\$1 = (\d+)", when).group(1),
                                   self.recording, at + "/4").stdout)
        self.assertEqual((write["old"], write["new"], write["cpl"]), ("01000000", "02000000", 3))
        self.assertRegex(write["symbol"], r"^(take|clean_up)\+0x")

    def record_kernels(self):
        """Three kernels one after the other: the recorded one, one that it starts, and one that the second leaves for
        its panic, which happens on the second vCPU. At prompt N `echo point-N` is typed."""
        kernel, base = Path(KERNEL).read_bytes(), Path(INITRD).read_bytes()
        initrd = base
        for _ in range(2):
            initrd = with_files(base, {"kexec_into": (GUESTS / "kexec_into").read_bytes(), "kernel": kernel,
                                       "initrd": initrd})
        (self.folder / "initrd").write_bytes(initrd)
        stages = ["/kexec_into exec 'console=ttyS0 stage=2 crashkernel=192M'",
                  "/kexec_into crash 'console=ttyS0 stage=3 nr_cpus=1 reset_devices'; "
                  "busybox taskset 2 sh -c 'echo c > /proc/sysrq-trigger'",
                  "poweroff -f"]
        with subprocess.Popen([DEJA, "record", "-o", self.recording.with_suffix(""), "-m", "768M", "-smp", "2", "--kernel",
                               KERNEL, "--initrd", self.folder / "initrd", "--append", "console=ttyS0 stage=1"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as recorder:
            output = b""
            for number, command in enumerate(stages, 1):
                seen = len(output)
                while b"demo# " not in output[seen:]:
                    data = os.read(recorder.stdout.fileno(), 65536)
                    self.assertTrue(data, output[-3000:])
                    output += data
                recorder.stdin.write(f"echo point-{number}; {command}\n".encode())
                recorder.stdin.flush()
            recorder.communicate(timeout=TIMEOUT)

    def test_after_kexec_and_in_a_kdump_kernel_the_living_kernel_is_shown(self):
        self.record_kernels()
        slides = set()
        for stage in (1, 2, 3):
            at = f'serial:"point-{stage}"#2'  # #1 is the typing
            # Symbols, variables and lists are those of the kernel that runs there.
            output = self.gdb("""
                info processes
                lsmod
                dmesg
                x/s *(char **) &saved_command_line
                monitor kernel
                """, "--at", at)
            self.assert_shown(output, r"^ +1 +1 init", r"^ADDRESS +NAME", rf"Command line: .*stage={stage}",
                              rf'"[^"]*stage={stage}')
            slide = int(re.findall(r"^0x[0-9a-f]+$", output, re.M)[-1], 16)
            slides.add(slide)
            core = self.folder / f"core{stage}"
            self.assertEqual(deja("export", self.recording, "vmcore", "--at", at, core).returncode, 0)
            with open(core, "rb") as file:
                note = file.read(1 << 20)
            self.assertEqual(int(re.search(rb"KERNELOFFSET=([0-9a-f]+)", note).group(1), 16), slide)
            core.unlink()
        self.assertEqual(len(slides), 3, "each kernel runs elsewhere")
        # gdb follows from one kernel into the next, and back.
        output = self.gdb("""
            seek serial:"point-1"#2
            x/s *(char **) &saved_command_line
            seek serial:"point-3"#2
            x/s *(char **) &saved_command_line
            seek serial:"point-2"#2
            x/s *(char **) &saved_command_line
            """)
        self.assert_shown(output, r"stage=1", r"The kernel runs elsewhere here", r"stage=3", r"stage=2")

    def test_processes_are_known_by_their_pids(self):
        program = GUESTS / "shared_pool"
        self.record_programs("shared_pool", {"usr/bin/shared_pool": program.read_bytes()})
        output = self.gdb("""
            seek end
            break complain
            reverse-continue
            print &object->generation
            print $step
            monitor processes
            """, "--symbols", program)
        monitored = output
        at = re.search(r"\(int \*\) 0x(7\w+)", output)[1]
        step = re.search(r"\$2 = (\d+)", output)[1]
        pids = re.findall(r"^ +(\d+) +\1 shared_pool +0x\w+$", output, re.M)
        self.assertGreaterEqual(len(pids), 1, output)
        self.assertRegex(output, r"(?m)^ +1 +1 \w+ +0x\w+$")
        self.assertRegex(output, r"(?m)^ +2 +2 kthreadd +-$")

        # Registers of the system, and physical addresses: the kernel's text is where it was linked, less its map's start.
        output = self.gdb("""
            info registers cr0 cr3 efer cr8
            print $ymm0.v32_int8[0] == $xmm0.v16_int8[0]
            output *(unsigned long *) 0xffffffff81000000
            maintenance packet Qqemu.PhyMemMode:1
            output *(unsigned long *) 0x1000000
            """, "--at", step)
        self.assert_shown(output, r"^cr0 .*\[ PE .*PG \]", r"^cr3 +(0x\w+)", r"^efer .*LME LMA", r"^cr8 +0x", r"\$1 = 1$")
        table = re.search(rf"^ +{pids[0]} +{pids[0]} shared_pool +(0x\w+)$", monitored, re.M)[1]
        self.assertEqual(int(re.search(r"^cr3 +(0x\w+)", output, re.M)[1], 16) & ~0xfff, int(table, 16))
        linear, physical = re.search(r"(\d{15,})sending.*?\n.*?\n?(\d{15,})", output, re.S).groups()
        self.assertEqual(linear, physical)
        # A core says which thread each CPU runs, so that tools take the CPU's registers for its.
        core = self.folder / "core"
        self.assertEqual(deja("export", "--at", step, self.recording, "vmcore", core).returncode, 0)
        data = core.read_bytes()[:4096]
        status = data.index(b"CORE\0\0\0\0") + 8
        self.assertEqual(str(int.from_bytes(data[status + 32:status + 36], "little")), pids[0])
        # gdb has tables of its own for them.
        output = self.gdb("info os processes\ninfo os threads\ninfo processes\n", "--at", step)
        self.assertRegex(output, rf"(?m)^{pids[0]} +0 +shared_pool +0 +0x\w+ *$")
        self.assertRegex(output, rf"(?m)^{pids[0]} +shared_pool +{pids[0]} +0 *$")
        self.assertRegex(output, r"(?m)^2 +0 +kthreadd +0 +- *$")

        def who_wrote(*options):
            done = deja("who-wrote", "--json", "--at", step, *options, self.recording, at + "/4")
            return json.loads(done.stdout) if done.returncode == 0 else done.stderr

        # The memory is shared: whichever of the two is asked for, the same write is found.
        here = who_wrote()
        self.assertIn(here, [who_wrote("--as", pid) for pid in pids])
        self.assertIn("there is no process or thread with PID 9999", who_wrote("--as", "9999"))
        self.assertIn("kernel thread", who_wrote("--as", "2"))
        # Where breakpoints are for a process, they are not seen in another: this one is init, which runs other code.
        script = "break complain\nreverse-continue\nprint $step\n"
        self.assert_shown(self.gdb(script, "--at", "end", "--symbols", program), "Breakpoint 1, complain")
        limited = self.gdb("break complain\nmonitor process 1\nseek end\nreverse-continue\n", "--at", step, "--symbols", program)
        self.assertRegex(limited, r"stop in process 1 \(CR3 0x")  # said on another stream, so in no order
        self.assertIn("No more reverse-execution history", limited)
        self.assertNotIn("hit Breakpoint", limited)
        limited = self.gdb("break complain\nseek end\nreverse-continue\n", "--at", step, "-p", "1", "--symbols", program)
        self.assert_shown(limited, "No more reverse-execution history")

    def test_kernel_thread_that_scribbles_on_a_list(self):
        module = build_module(Path(__file__).parent / "list_scribbler.c", KERNEL, self.folder)
        console = self.record_programs(
            "busybox insmod /list_scribbler.ko; cat /proc/modules; cd /sys/module/list_scribbler/sections;"
            " for s in .text .bss .data; do echo section $s $(cat $s); done; sleep 30",
            {"list_scribbler.ko": module.read_bytes()}, "--no-reboot", append="console=ttyS0 oops=panic panic=-1")
        corruption = re.search(r"list_add corruption. prev->next should be next .*\(prev=(\w+)\)", console)
        self.assertTrue(corruption, console[-2000:])
        section = dict(re.findall(r"section (\.\w+) (0x\w+)", console))
        output = self.gdb(f"""
            seek end
            symbols
            print &jobs
            watch *(unsigned long *) 0x{corruption.group(1)}
            reverse-continue
            backtrace 2
            print *(struct job *) report
            who-wrote *0x{corruption.group(1)}/8
            """, "--symbols", module.parent)
        # The thread and the line that did it; and before that the memory was a job, put there by the other thread.
        self.assert_shown(output, r"^list_scribbler \w{40} /.*/list_scribbler.ko$", rf"\) {section['.data']} <jobs>",
                          r"Hardware watchpoint 1", r"stamp_report \(report=0x" + corruption.group(1),
                          r"report->stamp = 0xbad0bad0bad0bad0 \+ jiffies;", r"^#1 .* auditor \(",
                          r"next = 0x\w+ <jobs>.*number = 16",
                          r"^step [\d,]+: vCPU 0 kernel .* mov .*-> 0xffffffffc0\w+$", r"planner \+")
        # What the guest said of itself, as seen from outside: its modules, and the messages of its kernel.
        said = re.search(r"^list_scribbler (\d+) (\d+) .*Live (0x\w+)", console, re.M)
        log = re.search(r"^(\[ +0\.000000\] Linux version.*?)^(?!\[)", console.replace("\r", ""), re.M | re.S)[1].splitlines()
        output = self.gdb("seek end\nlsmod\ninfo os modules\ndmesg\n")
        self.assertRegex(output, rf"(?m)^{said[3]} list_scribbler +{said[1]} +{said[2]} *$")
        self.assertRegex(output, rf"(?m)^list_scribbler +{said[1]} +{said[2]} +- +Live +{said[3]} *$")
        self.assertGreater(len(log), 100)
        lines = iter(output.splitlines())
        for line in log:
            self.assertIn(line, lines)  # in this order
        self.assertIn("list_add corruption", output)
        # The kernel's functions are known by the names it knows itself.
        writes = json.loads(deja("who-wrote", "--json", "--all", self.recording, corruption.group(1) + "/8").stdout)
        self.assertRegex(writes[0]["symbol"], r"^(clear_page|memset|memcpy)\w*(\+0x\w+)?$")
        output = self.gdb("seek end\nbreak __list_add_valid\nreverse-continue\nbacktrace 1\ninfo symbol $pc\n")
        self.assert_shown(output, r"Breakpoint 1, 0x\w+ in __list_add_valid \(\)", r"^__list_add_valid( \+ \d+)? in section")

    def test_stripped_programs_of_the_guest_have_the_names_that_they_export(self):
        self.record_programs("true", {})
        for package in fetch(["bash", "libc6"]):
            subprocess.run(["dpkg-deb", "-x", package.path, self.folder / "files"], check=True)
        # The shell waits for what is typed at its prompt.
        output = self.gdb("""
            symbols
            info symbol execute_command_internal
            break execute_command_internal
            continue
            info symbol $pc
            """, "--at", 'serial:"demo# "#1', "--symbols", self.folder / "files")
        self.assert_shown(output, r"^0x5\w+ \w{40} /\S+/bin/bash$", r"^0x7\w+ \w{40} /\S+/libc.so.6$",
                          r"^execute_command_internal in section \.text of .*bash$", r"Breakpoint 1 at 0x\w+$",
                          r"Breakpoint 1, .*execute_command_internal", r"^execute_command_internal.* in section")

    def test_symbols_of_another_kernel_are_refused(self):
        self.record_programs("true", {})
        (self.folder / "other.c").write_text('int x __attribute__((section(".data..percpu"))) = 1; void _start(void) {}\n')
        subprocess.run(["gcc", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id,--unique=.data..percpu", "-o", self.folder / "vmlinux",
                        self.folder / "other.c"], check=True)
        done = deja("debug", "--symbols", self.folder / "vmlinux", self.recording, "--", "-batch")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"vmlinux: of another kernel: its build-id is \w{40}, that of the recorded one \w{40};")


if __name__ == "__main__":
    unittest.main()
