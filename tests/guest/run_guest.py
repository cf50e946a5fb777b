#!/usr/bin/env python3
"""Runs a bare-metal test kernel and checks its serial output and exit status.

    run_guest.py --deja build/deja --mode plain KERNEL [-- deja options]
    run_guest.py --qemu KERNEL [-- QEMU options]
    run_guest.py --qemu --all build/tests/guest/manifest.tsv

Modes: plain          deja run
       chaos          deja run --chaos-engine SEED, seeds 1 and 2 or the one given with --seed
       record         deja record, then deja verify of the recording
       record-chaos   deja record, then deja verify --chaos-engine SEED
In every mode the guest must print a line that matches --expect-output and end with --expect-exit; recordings
must verify as identical. A guest leaves through the debug-exit port: value v gives exit status (v << 1) | 1.
"""
import argparse
import re
import subprocess
import sys
import tempfile

SKIPPED = 77  # as CMakeLists.txt has it


def execute(command, timeout):
    """Returns (status, output); status is None after a timeout."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            status = None
    return status, output.decode("utf-8", "replace").replace("\r\n", "\n")


def check_run(command, args):
    """Runs the command; a message for what is wrong, or None."""
    status, output = execute(command, args.timeout)
    if args.verbose:
        print(output)
    problem = None
    if "which this host's CPU lacks" in output:  # a feature of the CPU model
        print(output)
        sys.exit(SKIPPED)
    if status is None:
        problem = f"did not end within {args.timeout} s"
    elif status != args.expect_exit:
        problem = f"exit status {status}, expected {args.expect_exit}"
    elif not re.search(args.expect_output, output, re.MULTILINE):
        problem = f"no output line matches {args.expect_output!r}"
    if problem:
        return f"{problem}\n$ {' '.join(command)}\n{output}"
    return None


def run_qemu(kernel, options, args):
    return check_run(["qemu-system-x86_64", "-M", "pc", "-cpu", "max,vendor=GenuineIntel", "-accel", "tcg", "-kernel", kernel,
                      "-serial", "stdio", "-monitor", "none", "-display", "none", "-nic", "none",
                      "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4", "-no-reboot", *options], args)


def run_deja(kernel, options, args):
    machine = ["--kernel", kernel, "-m", "128M", *options]
    seeds = [args.seed] if args.seed is not None else [1, 2]
    if args.mode == "plain":
        return check_run([args.deja, "run", *machine], args)
    if args.mode == "chaos":
        for seed in seeds:
            problem = check_run([args.deja, "run", "--chaos-engine", str(seed), *machine], args)
            if problem:
                return problem
        return None
    with tempfile.TemporaryDirectory() as scratch:
        recording = scratch + "/guest.deja"
        problem = check_run([args.deja, "record", "-o", recording, *machine], args)
        if problem:
            return problem
        chaos = [[]] if args.mode == "record" else [["--chaos-engine", str(s)] for s in seeds]
        for extra in chaos:
            command = [args.deja, "verify", *extra, recording]
            status, output = execute(command, args.timeout)
            if status != 0 or not re.search(r"^identical: ", output, re.MULTILINE):
                return f"verify ended with status {status}\n$ {' '.join(command)}\n{output}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", nargs="?")
    parser.add_argument("options", nargs="*", help="passed on to deja or QEMU, after --")
    parser.add_argument("--deja", default="build/deja")
    parser.add_argument("--mode", choices=["plain", "chaos", "record", "record-chaos"], default="plain")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--qemu", action="store_true")
    parser.add_argument("--all", metavar="MANIFEST")
    parser.add_argument("--expect-exit", type=int, default=1)
    parser.add_argument("--expect-output", default="^PASS$")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()

    if args.all:
        failed = 0
        with open(args.all, encoding="utf-8") as manifest:
            for line in manifest:
                kernel, status, args.expect_output, options = line.rstrip("\n").split("\t")
                args.expect_exit = int(status)
                problem = run_qemu(kernel, options.split(), args)
                name = kernel.rsplit("/", 1)[-1]
                print(f"{'FAIL' if problem else 'ok  '} {name}", flush=True)
                if problem:
                    failed += 1
                    print(problem)
        return 1 if failed else 0
    if not args.kernel:
        parser.error("a kernel or --all is needed")
    problem = (run_qemu if args.qemu else run_deja)(args.kernel, args.options, args)
    if problem:
        print(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
