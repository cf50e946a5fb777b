"""Limits of the host: under each of them a verb does its work, or says in one line which limit is in its way."""
import ctypes
import errno
import os
import resource
import struct
import subprocess
import unittest
from pathlib import Path

from guest_session import DEJA, GUESTS, TIMEOUT, ReplayTest

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MACHINE = ["-m", "64M", "--kernel", str(GUESTS / "strings")]

# Limit, the values tried, and what a message about it has to name.
LIMITS = [
    (resource.RLIMIT_AS, [64 * MIB, 128 * MIB, 256 * MIB, 512 * MIB, 768 * MIB, GIB, 3 * GIB // 2, 2 * GIB, 4 * GIB, 8 * GIB,
                          64 * GIB, 72 * GIB], "ulimit -v"),
    (resource.RLIMIT_DATA, [MIB, 16 * MIB, 64 * MIB, 128 * MIB, 256 * MIB, 512 * MIB, GIB, 2 * GIB], "ulimit -d"),
    (resource.RLIMIT_FSIZE, [0, 1, 4 * KIB, 64 * KIB, MIB, 16 * MIB, 63 * MIB, 64 * MIB], "ulimit -f"),
    (resource.RLIMIT_NOFILE, [*range(3, 24), 32, 64], "ulimit -n"),
    (resource.RLIMIT_MEMLOCK, [0], "ulimit -l"),
    (resource.RLIMIT_STACK, [64 * KIB, 256 * KIB, MIB], "ulimit -s"),
    (resource.RLIMIT_CORE, [0], "ulimit -c"),
    (resource.RLIMIT_SIGPENDING, [0], "ulimit -i"),
    (resource.RLIMIT_MSGQUEUE, [0], "ulimit -q"),
]
NAMES = {getattr(resource, name): name for name in dir(resource) if name.startswith("RLIMIT_")}

# x86-64 numbers, for a filter like that of a container.
SECCOMP_DATA_NUMBER = 0
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
# The call's number, and what a message has to say of it where DejaVM does not do without: its name, or what it was for.
CALLS = {"memfd_create": (319, "memfd_create"), "sigaltstack": (131, "sigaltstack"),
         "socketpair": (53, "cannot start the process"), "signalfd4": (289, "watch for signals"),
         "seccomp": (317, "filter of system calls"), "landlock_create_ruleset": (444, "Landlock"),
         "landlock_restrict_self": (446, "Landlock"), "madvise": (28, "code cache: keeping it from other processes"),
         "prctl": (157, "PR_SET_NO_NEW_PRIVS"), "close_range": (436, "close_range"), "getrandom": (318, "random bytes"),
         "rseq": (334, "rseq"), "membarrier": (324, "membarrier"), "flock": (73, "cannot lock"),
         "fdatasync": (75, "cannot sync")}


def refuse(number, error):
    """Of the calling process and those that it starts, refuses a system call."""
    def statement(code, true, false, value):
        return struct.pack("<HBBI", code, true, false, value)
    program = b"".join([statement(0x20, 0, 0, SECCOMP_DATA_NUMBER), statement(0x15, 0, 1, number),
                        statement(0x06, 0, 0, ERRNO | error), statement(0x06, 0, 0, ALLOW)])
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "no_new_privs"
    assert libc.prctl(22, 2, header, 0, 0) == 0, os.strerror(ctypes.get_errno())


class Limits(ReplayTest):
    def setUp(self):
        super().setUp()
        self.count = 0
        whole = self.run_deja("record", "-o", self.folder / "whole", *MACHINE)
        self.assertEqual(whole.returncode, 1, whole.stderr)  # the guest's own status: it has passed

    def run_deja(self, *arguments, before=None, **options):
        return subprocess.run([DEJA, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT,
                              text=True, errors="replace", preexec_fn=before, **options)

    def commands(self):
        """The verb, its arguments, and the status with which it ends when all is well."""
        self.count += 1
        return [("run", MACHINE, 1), ("record", ["-o", self.folder / f"r{self.count}", *MACHINE], 1),
                ("replay", [self.folder / "whole.deja"], 0), ("verify", [self.folder / "whole.deja"], 0)]

    def check(self, about, done, good, name=None):
        """It has worked, or it says what is in its way; `name`: what the words must have in them."""
        said = done.stdout + done.stderr
        self.assertGreaterEqual(done.returncode, 0, f"{about}: ended by a signal\n{said}")
        for wrong in ("bug in DejaVM", "internal error", "std::", "terminate called"):
            self.assertNotIn(wrong, said, about)
        if done.returncode == good and "PASS" in said + "PASS" * (good == 0):
            return True
        last = [line for line in done.stderr.splitlines() if line.startswith("deja: ")]
        self.assertTrue(last, f"{about}: status {done.returncode} without a word\n{said}")
        if name:
            self.assertIn(name, done.stderr, about)
        return False

    def under(self, limit, value):
        return lambda: resource.setrlimit(limit, (value, value))

    def test_every_limit_of_resources_is_met_or_named(self):
        for limit, values, name in LIMITS:
            for value in values:
                for verb, arguments, good in self.commands():
                    with self.subTest(limit=NAMES[limit], value=value, verb=verb):
                        done = self.run_deja(verb, *arguments, before=self.under(limit, value))
                        # The program itself cannot be loaded: ld.so and the kernel speak then.
                        if "error while loading shared libraries" in done.stderr or done.returncode == -9:
                            continue
                        self.check(f"{NAMES[limit]} {value} {verb}", done, good, name)

    def test_limits_that_are_enough_are_no_hindrance(self):
        for limit, value in [(resource.RLIMIT_AS, 2 * GIB), (resource.RLIMIT_DATA, GIB), (resource.RLIMIT_FSIZE, MIB),
                             (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_MEMLOCK, 0), (resource.RLIMIT_STACK, MIB)]:
            for verb, arguments, good in self.commands():
                with self.subTest(limit=NAMES[limit], verb=verb):
                    done = self.run_deja(verb, *arguments, before=self.under(limit, value))
                    self.assertTrue(self.check(f"{NAMES[limit]} {value} {verb}", done, good), done.stderr)

    def test_a_soft_limit_of_descriptors_is_raised(self):
        for verb, arguments, good in self.commands():
            done = self.run_deja(verb, *arguments, before=lambda: resource.setrlimit(
                resource.RLIMIT_NOFILE, (8, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
            self.assertTrue(self.check(verb, done, good), done.stderr)

    def test_system_calls_that_something_around_refuses_are_named(self):
        for call, (number, word) in CALLS.items():
            for error in (errno.EPERM, errno.ENOSYS):
                for verb, arguments, good in self.commands():
                    with self.subTest(call=call, error=errno.errorcode[error], verb=verb):
                        done = self.run_deja(verb, *arguments, before=lambda: refuse(number, error))
                        self.check(f"{call} {verb}", done, good, word)

    def test_landlock_that_is_forbidden_is_not_taken_for_an_old_kernel(self):
        number, _ = CALLS["landlock_create_ruleset"]
        for verb, arguments, good in self.commands():
            with self.subTest(verb=verb):
                done = self.run_deja(verb, *arguments, "--sandbox", "strict", before=lambda: refuse(number, errno.EPERM))
                self.assertFalse(self.check(verb, done, good, "may not use Landlock"), "it has worked")
                self.assertNotIn("5.13", done.stderr)
                for error, words in ((errno.ENOSYS, "no Landlock"), (errno.EOPNOTSUPP, "switched off")):
                    done = self.run_deja(verb, *arguments, "--sandbox", "strict", before=lambda: refuse(number, error))
                    self.assertFalse(self.check(verb, done, good, words), "it has worked")

    def test_a_signal_stack_that_is_refused_is_named(self):
        done = self.run_deja("run", *MACHINE, before=lambda: refuse(CALLS["sigaltstack"][0], errno.EPERM))
        self.assertGreater(done.returncode, 0)
        self.assertIn("sigaltstack", done.stderr)

    @unittest.skipIf(os.getuid(), "root can be another user, who has a limit of processes")
    def test_a_limit_of_processes_is_named(self):
        os.chmod(self.folder, 0o755)
        work = self.folder / "work"
        work.mkdir(mode=0o777)
        os.chmod(work, 0o777)

        def as_nobody():
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        image = self.folder / "disk.img"
        image.write_bytes(bytes(MIB))
        os.chmod(image, 0o644)
        done = self.run_deja("record", "-o", work / "r", *MACHINE, "--drive", f"file={image},format=raw", before=as_nobody,
                             env={**os.environ, "HOME": str(work)})
        if not self.check("RLIMIT_NPROC", done, 1):
            self.assertIn("ulimit -u", done.stderr)

    def test_places_that_are_not_there(self):
        nowhere = self.folder / "nowhere"
        full = Path("/dev/full")
        for variables in ({"HOME": None}, {"HOME": str(nowhere)}, {"HOME": ""}, {"TMPDIR": str(nowhere)}, {"TMPDIR": str(full)},
                          {"XDG_DATA_HOME": str(full)}, {"XDG_CACHE_HOME": str(full)}, {"XDG_RUNTIME_DIR": str(nowhere)},
                          {"HOME": str(full), "XDG_DATA_HOME": None}, {"TERM": None}, {"PATH": None}):
            environment = {**os.environ, **{k: v for k, v in variables.items() if v is not None}}
            for name, value in variables.items():
                if value is None:
                    environment.pop(name, None)
            for verb, arguments, good in [*self.commands(), ("record", MACHINE, 1), ("ls", [], 0)]:
                with self.subTest(variables=variables, verb=verb, arguments=arguments):
                    # Recordings of this test go where it can remove them.
                    inside = {**environment}
                    if "XDG_DATA_HOME" not in variables and "HOME" not in variables:
                        inside["XDG_DATA_HOME"] = str(self.folder / "data")
                    done = self.run_deja(verb, *arguments, env=inside, cwd=self.folder)
                    self.check(f"{variables} {verb}", done, good)

    def test_a_message_names_what_there_is_too_little_of(self):
        for limit, value, words in [(resource.RLIMIT_AS, GIB // 4, ["ulimit -v", "256.0 MiB"]),
                                    (resource.RLIMIT_NOFILE, 4, ["Too many open files", "ulimit -n"])]:
            done = self.run_deja("run", *MACHINE, before=self.under(limit, value))
            self.assertGreater(done.returncode, 0, done.stderr)
            for word in words:
                self.assertIn(word, done.stderr)


if __name__ == "__main__":
    unittest.main()
