# What gdb knows of time on a recording: loaded by `deja debug`, and by hand for a remote gdb
# (`deja debug --print-commands`).
import re

import gdb


def monitor(text):
    return gdb.execute("monitor " + text, to_string=True)


def follow_kernel(_event=None):
    """After a kexec the kernel runs elsewhere, and its symbols have to go there."""
    here = globals()
    if "deja_kernel_file" not in here:
        return
    answer = monitor("kernel").strip()
    if not answer.startswith("0x") or int(answer, 16) == here["deja_kernel_slide"]:
        return
    here["deja_kernel_slide"] = int(answer, 16)
    path = here["deja_kernel_file"].replace("\\", "\\\\").replace('"', '\\"')
    gdb.execute('symbol-file "%s" -o %s' % (path, answer), to_string=True)
    gdb.write("The kernel runs elsewhere here: its symbols are %s from where they were linked.\n" % answer)


def arrive(answer):
    """Makes gdb look again: registers, memory, old values of watchpoints, the thread that is next."""
    place = re.search(r"step [\d,]+ .*vCPU (\d+)", answer)
    if not place:
        raise gdb.GdbError(answer.strip())
    gdb.execute("maintenance flush register-cache", to_string=True)
    gdb.execute("maintenance flush dcache", to_string=True)
    for point in gdb.breakpoints():
        if point.type != gdb.BP_BREAKPOINT and point.enabled and point.is_valid():
            point.enabled = False
            point.enabled = True
    gdb.execute("thread %d" % (int(place.group(1)) + 1), to_string=True)
    follow_kernel()
    gdb.write(answer)
    gdb.execute("frame")


class Command(gdb.Command):
    def __init__(self):
        super().__init__(self.name, gdb.COMMAND_RUNNING)
        self.__class__.__doc__ = self.help

    def invoke(self, argument, from_tty):
        self.dont_repeat()
        self.run(argument)


class Question(Command):
    """A command that shows what the monitor answers."""

    def run(self, argument):
        gdb.write(monitor(self.question))


class When(Question):
    """Show where in the recording this is: its step, the guest's time, the vCPU whose turn it is."""
    name, help, question = "when", __doc__, "when"


class Seek(Command):
    """Go to a place in the recording: a step number, N%, start, end, +2s or -500ms from here, serial:"text", panic,
mark:NAME, event:N, or the host's time of day."""
    name, help = "seek", __doc__

    def run(self, argument):
        arrive(monitor("seek " + argument))


class Checkpoint(Question):
    """Remember this place in the recording; `restart N` comes back to it."""
    name, help, question = "checkpoint", __doc__, "checkpoint"


class InfoCheckpoints(Question):
    """The places in the recording that were remembered."""
    name, help, question = "info checkpoints", __doc__, "checkpoints"


class Restart(Command):
    """Go to a place that `checkpoint` has remembered: restart N."""
    name, help = "restart", __doc__

    def run(self, argument):
        arrive(monitor("restart " + argument))


class WhoWrote(Command):
    """Find the last write of an expression's bytes: who-wrote EXPRESSION, or who-wrote ADDRESS/LENGTH.
Whatever way it came: another mapping, another process, a device. With `all` in front: every write up to here."""
    name, help = "who-wrote", __doc__

    def run(self, argument):
        every = argument.startswith("all ")
        if every:
            argument = argument[4:]
        # As for the verb: an address in hexadecimal, and a length.
        bare = re.match(r"\s*([0-9a-fA-F]+)/(\d+)\s*$", argument)
        by_hand = re.match(r"\s*\*(.*)/(\d+)\s*$", argument)
        try:
            if bare:
                address, size = int(bare.group(1), 16), int(bare.group(2))
            elif by_hand:
                address, size = int(gdb.parse_and_eval(by_hand.group(1))), int(by_hand.group(2))
            else:
                value = gdb.parse_and_eval(argument)
                if value.address is None:
                    raise gdb.GdbError("who-wrote: '%s' is not in memory" % argument)
                address, size = int(value.address), value.type.sizeof
        except gdb.error as error:
            raise gdb.GdbError("who-wrote: %s\nwrite: who-wrote EXPRESSION, or who-wrote ADDRESS/LENGTH" % error)
        answer = monitor("who-wrote %x/%d%s" % (address & (1 << 64) - 1, size, " all" if every else ""))
        for line in answer.splitlines():
            gdb.write(line + "\n")
            at = re.search(r"(?:user|kernel) (0x[0-9a-f]+) ", line)
            if at:
                where = gdb.execute("info symbol " + at.group(1), to_string=True)
                source = gdb.execute("info line *" + at.group(1), to_string=True)
                for text in (where, source):
                    if not text.startswith("No "):
                        gdb.write("  " + text)


class Insn(Command):
    """Disassemble the next N instructions in the mode that the vCPU is in (gdb takes all code for 64-bit code)."""
    name, help = "insn", __doc__

    def run(self, argument):
        gdb.write(monitor("insn " + argument))


class InfoProcesses(Question):
    """The processes and threads of a Linux guest: PID, name, page table. gdb's `info os processes` has their users."""
    name, help, question = "info processes", __doc__, "processes"


class Dmesg(Question):
    """What the kernel of a Linux guest has said up to here: its ring buffer of messages."""
    name, help, question = "dmesg", __doc__, "dmesg"


class Lsmod(Question):
    """The modules that the kernel of a Linux guest has loaded, and where they are."""
    name, help, question = "lsmod", __doc__, "modules"


class Symbols(Command):
    """Load the symbols of programs and libraries that are mapped here, and of the kernel's modules, from the files that
`deja debug --symbols` found. They are recognised by their build-id."""
    name, help = "symbols", __doc__
    loaded = set()

    def run(self, argument):
        files = globals().get("deja_symbol_files", {})
        for line in monitor("images").splitlines():
            base, lowest, build_id = line.split()
            paths = files.get(build_id, [])
            gdb.write("%s %s %s\n" % (base, build_id, ", ".join(paths) or "(no symbols for it)"))
            for path in paths:
                if (path, base) not in self.loaded:
                    self.loaded.add((path, base))
                    gdb.execute('add-symbol-file "%s" -o %#x' % (path, int(base, 16) - int(lowest, 16)), to_string=True)
        for line in monitor("modules sections").splitlines():
            # The guest has chosen the names: nothing but names may come of them.
            sections = re.findall(r"(?<= )([.\w][\w.-]*)=(0x[0-9a-f]+)(?= |$)", line)
            for path in files.get(line.split()[1], []):
                gdb.write("%s %s\n" % (" ".join(line.split()[:2]), path))
                if (path, line) not in self.loaded:
                    self.loaded.add((path, line))
                    places = " ".join("-s %s %s" % section for section in sections)
                    gdb.execute('add-symbol-file "%s" %s' % (path, places), to_string=True)


for command in (When, Seek, Checkpoint, InfoCheckpoints, Restart, WhoWrote, Insn, InfoProcesses, Dmesg, Lsmod, Symbols):
    command()

gdb.events.stop.connect(follow_kernel)
