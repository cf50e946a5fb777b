#!/usr/bin/env python3
"""A whole Debian system, used as a person would while it is recorded: `./dev distro`.

Builds an image, records it with two vCPUs, logs in with ssh, compiles a program and fetches a file over HTTP inside, and
switches it off; then a recording in which 32-bit programs are compiled, run, traced and debugged; then one with four vCPUs
under stress-ng; then the image is started from BIOS and UEFI firmware. Everything that follows works on the recordings alone:
they must verify as identical, also under engine chaos, the traffic must open in tshark, and the disk at half time must pass
e2fsck and open in debugfs. Takes several minutes, most of them for packages.

With --only cloud-init: an image that nobody can log in to gets its name, a user's key and a command from a NoCloud seed.
"""
import argparse
import atexit
import functools
import hashlib
import http.server
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PACKAGES = "gcc,libc6-dev,gcc-multilib,gdb,strace,stress-ng"
PARTITION_START = 4 << 20
PROGRAM = r"""#include <stdio.h>
int main(void) { printf("compiled in the guest: %d\n", 6 * 7); return 0; }
"""
# A 32-bit program: has the kernel fill much memory, so that the TLB has room for little else, calls it through INT 80h, takes
# each kind of exception that a signal can be caught of, and counts in four threads and a child.
PROGRAM32 = r"""#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
static sigjmp_buf back;
static int counter;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void caught(int number, siginfo_t* info, void* context) {
  (void)info, (void)context;
  siglongjmp(back, number);
}
#define TRY(text)                                     \
  do {                                                \
    const int got = sigsetjmp(back, 1);               \
    if (got) printf(" %d", got);                      \
    else __asm__ volatile(text ::: "eax", "ecx", "edx", "memory", "cc"); \
  } while (0)
static void exceptions(void) {
  struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
  for (int s = 1; s < 32; s++)
    if (s != SIGKILL && s != SIGSTOP && s != SIGCHLD) sigaction(s, &action, 0);
  printf("signals:");
  TRY("xorl %%edx, %%edx; xorl %%ecx, %%ecx; movl $1, %%eax; divl %%ecx");
  TRY("pushf; orl $0x100, (%%esp); popf; nop");
  TRY("pushf; orl $0x100, (%%esp); popf; movl $20, %%eax; int $0x80");
  TRY("int3");
  TRY("movl $0x7fffffff, %%eax; addl $1, %%eax; into");
  TRY("pushl $5; pushl $1; movl $9, %%eax; bound %%eax, (%%esp)");
  TRY("ud2");
  TRY("hlt");
  TRY("movl $1, 0x10");
  TRY("movl $0xfff8, %%eax; movl %%eax, %%es");
  TRY("int $0x41");
  puts("");
  for (int s = 1; s < 32; s++) signal(s, SIG_DFL);
}

static void* count(void* unused) {
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(&lock);
    counter++;
    pthread_mutex_unlock(&lock);
  }
  return unused;
}

__attribute__((noinline)) static void finish(int status) { printf("counted %d, child %d\n", counter, status); }

int main(int arguments, char** argument) {
  (void)argument;
  const size_t size = 64 << 20;
  char* memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const int zero = open("/dev/zero", O_RDONLY);
  int same = 0;
  for (int i = 0; i < 20; i++) {
    if (read(zero, memory, size) != (ssize_t)size) return 1;
    int pid;
    __asm__ volatile("int $0x80" : "=a"(pid) : "a"(20) : "memory");
    same += pid == getpid();
  }
  printf("%d bits, %d of 20 calls\n", (int)sizeof(void*) * 8, same);
  if (arguments == 1) exceptions();  // a debugger takes SIGTRAP for its own
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], 0, count, 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) _exit(7);
  int status = 0;
  waitpid(child, &status, 0);
  finish(WEXITSTATUS(status));
  return 0;
}
"""
SAID32 = """32 bits, 20 of 20 calls
signals: 8 5 5 5 11 11 4 11 11 11 11
counted 80000, child 7
"""


def say(text):
    print(f"distro: {text}", flush=True)


def run(*command, **options):
    """Its output; ends the test when it fails."""
    done = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", **options)
    if done.returncode:
        sys.exit(f"distro: {' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Guest:
    """The image, being recorded, with ssh."""

    def __init__(self, deja, work, name, *options, image="debian.raw"):
        self.recording, self.key, self.port = work / f"{name}.deja", work / "key", free_port()
        self.log = open(work / f"{name}.log", "wb")
        self.started = time.monotonic()
        self.process = subprocess.Popen([deja, "record", "-o", self.recording, work / image, "-m", "1G", *options,
                                         "-nic", f"user,hostfwd=tcp:127.0.0.1:{self.port}-:22", "--serial", "none"],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        atexit.register(self.process.kill)
        self.wait_for_ssh()

    def ssh(self, command, timeout=600):
        return subprocess.run(["ssh", "-i", self.key, "-p", str(self.port), "-o", "StrictHostKeyChecking=no",
                               "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=120",
                               "-o", "BatchMode=yes", "root@127.0.0.1", command], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout)

    def wait_for_ssh(self):
        while self.ssh("true").returncode:
            if self.process.poll() is not None or time.monotonic() - self.started > 600:
                sys.exit(f"distro: no ssh:\n{Path(self.log.name).read_text(errors='replace')}")
            time.sleep(1)
        say(f"logged in by ssh {time.monotonic() - self.started:.0f} s after the start")

    def do(self, command):
        done = self.ssh(command)
        if done.returncode:
            sys.exit(f"distro: in the guest: {command}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def power_off(self):
        self.ssh("systemctl poweroff")
        if self.process.wait(timeout=300):
            sys.exit(f"distro: deja ended with an error:\n{Path(self.log.name).read_text(errors='replace')}")


def verify(deja, recording, *options):
    start = time.monotonic()
    last = run(deja, "verify", *options, recording).strip().splitlines()[-1]
    if not last.startswith("identical: "):
        sys.exit(f"distro: {recording}: {last}")
    return f"{' '.join(['verify', *options])}: {last} ({time.monotonic() - start:.0f} s)"


def check_identical(deja, recording):
    for options in ([], ["--chaos-engine", "7"]):
        say(verify(deja, recording, *options))


def serve(folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def make_key(work):
    if not (work / "key").exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / "key")


def make_image(deja, work, image):
    if image:
        (work / "debian.raw").symlink_to(image.absolute())
        return
    start = time.monotonic()
    run(deja, "image", "debian12", work / "debian.raw", "--ssh-key", work / "key.pub", "--packages", PACKAGES)
    say(f"made an image in {time.monotonic() - start:.0f} s")


def daily_work(deja, work):
    served = work / "served"
    served.mkdir()
    data = random.Random(1).randbytes(3_000_000)
    (served / "file").write_bytes(data)
    guest = Guest(deja, work, "work", "-smp", "2")
    said = guest.do(f"cat >hello.c <<'END'\n{PROGRAM}END\ngcc -O2 -o hello hello.c && ./hello && nproc")
    if said != "compiled in the guest: 42\n2\n":
        sys.exit(f"distro: the program that was compiled in the guest said: {said}")
    fetched = guest.do(f"wget -q -O - http://10.0.2.2:{serve(served)}/file | tee fetched | sha256sum; sync")
    if fetched.split()[0] != hashlib.sha256(data).hexdigest():
        sys.exit("distro: the file fetched over HTTP is not the one that was served")
    say("compiled a program and fetched a file inside")
    guest.do("deja-mark 'work done'")
    guest.power_off()
    check_identical(deja, guest.recording)

    run(deja, "export", guest.recording, "pcap", work / "traffic.pcapng")
    packets = len(run("tshark", "-r", work / "traffic.pcapng").splitlines())
    requests = run("tshark", "-r", work / "traffic.pcapng", "-Y", "http.request", "-T", "fields", "-e", "http.request.uri")
    if "/file" not in requests:
        sys.exit("distro: tshark does not see the HTTP request")
    say(f"tshark reads {packets} packets, the HTTP request among them")

    for at in ("50%", "mark:work done"):
        disk, system = work / "disk.raw", work / "system"
        run(deja, "export", guest.recording, "disk", "--at", at, disk)
        run("dd", f"if={disk}", f"of={system}", "bs=1M", f"skip={PARTITION_START >> 20}", "conv=sparse", "status=none")
        subprocess.run(["e2fsck", "-y", "-E", "journal_only", system], capture_output=True)  # 1: it was replayed
        run("e2fsck", "-fn", system)
        found = run("debugfs", "-R", "stat /root/fetched", system)
        say(f"the disk at {at} passes e2fsck; debugfs: " +
            (f"/root/fetched has {re.search('Size: ([0-9]+)', found)[1]} bytes" if "Size:" in found else "no /root/fetched yet"))
        disk.unlink(), system.unlink()


def programs32(deja, work):
    """i386 programs, static and dynamic, and what looks into them: their events go from compatibility mode to the kernel."""
    guest = Guest(deja, work, "programs32", "-smp", "2")
    guest.do(f"cat >p.c <<'END'\n{PROGRAM32}END")
    for name, flags in (("static", "-static"), ("dynamic", ""), ("threads", "-pthread")):
        said = guest.do(f"gcc -m32 -g -O1 {flags} -o {name} p.c && ./{name}")
        if not said.startswith(SAID32):
            sys.exit(f"distro: the {name} 32-bit program said:\n{said}")
    expect = {
        "ldd ./dynamic": ["/lib/ld-linux.so.2", "libc.so.6 => "],
        "strace -f -o log ./threads >/dev/null && cat log": ["set_thread_area(", "clone", "exited with 0"],
        "strace -f -o log ./static >/dev/null && cat log": ["set_thread_area(", "--- SIGFPE", "--- SIGTRAP", "--- SIGILL",
                                                          "exited with 7", "exited with 0"],
        # Breakpoints (INT3), a watchpoint (debug registers) and single steps, a system call among them.
        "gdb -batch -ex 'break finish' -ex 'run calm' -ex 'print counter' -ex bt"
        " -ex 'stepi 40' -ex 'info registers eip cs' -ex continue ./threads 2>&1":
            ["Breakpoint 1, finish (status=7)", "$1 = 80000", "main (arguments=2, ", "0x23", "counted 80000, child 7",
             "exited normally"],
        "gdb -batch -ex 'break main' -ex 'run calm' -ex 'watch counter if counter == 3'"
        " -ex continue -ex 'print counter' -ex 'delete 2' -ex continue ./static 2>&1":
            ["Hardware watchpoint 2: counter", "$1 = 3", "counted 80000, child 7", "exited normally"],
    }
    for command, wanted in expect.items():
        said = guest.do(command)
        for text in wanted:
            if text not in said:
                sys.exit(f"distro: in the guest: {command}: without {text!r}:\n{said}")
    say("32-bit programs ran, static, dynamic and with threads, also under ldd, strace and gdb")
    guest.power_off()
    check_identical(deja, guest.recording)


def stress(deja, work, seconds):
    guest = Guest(deja, work, "stress", "-smp", "4")
    said = guest.do(f"stress-ng --verify --cpu 2 --vm 1 --vm-bytes 64M --futex 2 --fork 2 --pipe 2 -t {seconds} 2>&1")
    if "successful run completed" not in said:
        sys.exit(f"distro: stress-ng:\n{said}")
    say("stress-ng --verify over cpu, vm, futex, fork and pipe on four vCPUs: " + said.strip().splitlines()[-1])
    guest.power_off()
    check_identical(deja, guest.recording)


def start_from_firmware(deja, work):
    """GRUB starts the kernel, which says so."""
    for firmware in ("seabios", "ovmf"):
        guest = Guest(deja, work, firmware, "--firmware", firmware)
        guest.do("grep BOOT_IMAGE=/vmlinuz /proc/cmdline")
        if bool(guest.ssh("test -d /sys/firmware/efi").returncode) != (firmware == "seabios"):
            sys.exit(f"distro: {firmware} did not start the system")
        guest.power_off()
        say(f"{firmware} and GRUB start the image; {verify(deja, guest.recording)}")


def cloud_init(deja, work, image):
    if image:
        (work / "cloud.raw").symlink_to(image.absolute())
    else:
        run(deja, "image", "debian12", work / "cloud.raw", "--packages", "cloud-init", "--hostname", "nameless")
    (work / "meta-data").write_text("instance-id: deja-1\nlocal-hostname: seeded\n")
    (work / "user-data").write_text(f"""#cloud-config
disable_root: false
locale: false
ssh_authorized_keys: [{(work / "key.pub").read_text().strip()}]
write_files: [{{path: /root/greeting, content: "written by cloud-init"}}]
runcmd: [[sh, -c, "echo it ran >/root/ran"]]
""")
    seed = work / "seed.img"
    seed.write_bytes(bytes(1 << 20))
    run("mkfs.vfat", "-n", "CIDATA", seed)
    run("mcopy", "-i", seed, work / "meta-data", work / "user-data", "::/")
    guest = Guest(deja, work, "cloud", "--drive", f"file={seed},format=raw,readonly", image="cloud.raw")
    guest.ssh("cloud-init status --wait")
    said = guest.do("hostname; cat /root/greeting; echo; cat /root/ran; grep -o 'NoCloud .seed=/dev/vdb' /run/cloud-init/result.json")
    if said.splitlines() != ["seeded", "written by cloud-init", "it ran", "NoCloud [seed=/dev/vdb"]:
        sys.exit(f"distro: after cloud-init:\n{said}{guest.do('cloud-init status --long; tail -20 /var/log/cloud-init.log')}")
    say("cloud-init took name, key, file and command from the seed")
    guest.power_off()
    check_identical(deja, guest.recording)


def main():
    parser = argparse.ArgumentParser(prog="./dev distro", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--deja", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--image", type=Path, help="use this image (with its key in --work) instead of making one")
    parser.add_argument("--work", type=Path, help="folder to work in; it is kept (default: a temporary one)")
    parser.add_argument("--seconds", type=int, default=10, help="of the guest's time for stress-ng (default: %(default)s)")
    parser.add_argument("--only", choices=["work", "programs32", "stress", "firmware", "cloud-init"],
                        help="one session (default: all but cloud-init)")
    options = parser.parse_args()
    for tool in ("ssh", "tshark", "e2fsck", "debugfs", "mkfs.vfat", "mcopy"):
        if not shutil.which(tool):
            sys.exit(f"distro: {tool} is not installed")
    work = options.work or Path(tempfile.mkdtemp(prefix="deja-distro-"))
    work.mkdir(exist_ok=True)
    try:
        make_key(work)
        if options.only == "cloud-init":
            cloud_init(options.deja, work, options.image)
        else:
            make_image(options.deja, work, options.image)
        if options.only in (None, "work"):
            daily_work(options.deja, work)
        if options.only in (None, "programs32"):
            programs32(options.deja, work)
        if options.only in (None, "stress"):
            stress(options.deja, work, options.seconds)
        if options.only in (None, "firmware"):
            start_from_firmware(options.deja, work)
        say("all is well")
    finally:
        if not options.work:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
