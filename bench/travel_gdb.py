"""Run by gdb, the same for DejaVM and QEMU: times travelling at the end of a recording. What to do comes in the
environment; each step is announced, and its seconds and what is to be said of it printed, one line each."""

import os
import random
import time

import gdb

TARGET, STEPS = os.environ["TRAVEL_TARGET"], int(os.environ["TRAVEL_STEPS"])
END, NAME = int(os.environ["TRAVEL_END"], 16), int(os.environ["TRAVEL_NAME"], 16)
SEEKS = int(os.environ["TRAVEL_SEEKS"])
WHAT = os.environ["TRAVEL_WHAT"].split()


def say(*words):
    print("TRAVEL", *words, flush=True)


def timed(step, action, verdict):
    say("begin", step)
    began = time.monotonic()
    try:
        action()
        seconds = time.monotonic() - began
        trouble = verdict()
    except gdb.error as error:
        seconds, trouble = time.monotonic() - began, str(error).strip().replace("\n", " ")
    say("end", step, f"{seconds:.6f}", trouble or "ok")


def run(command):
    return gdb.execute(command, to_string=True)


def pc():
    return int(gdb.parse_and_eval("$pc")) & (1 << 64) - 1


def host_name():
    return bytes(gdb.selected_inferior().read_memory(NAME, 10)).split(b"\0")[0].decode(errors="replace")


def at_the_end():
    return None if pc() == END else f"wrong stop, at {pc():#x}"


def where_the_name_was_written():
    if host_name() == "travelling":
        return f"wrong stop, at {pc():#x}: the host name was written before"
    run("stepi")
    return None if host_name()[:1] == "t" else f"wrong stop, at {pc():#x}: the host name is not written there"


run("set pagination off")
run("set confirm off")
run("set architecture i386:x86-64")
run("set remotetimeout 600")
timed("connect", lambda: run("target remote " + TARGET), lambda: None)
run(f"hbreak *{END:#x}")
timed("replay", lambda: run("continue"), at_the_end)
run("delete")
if "reverse-stepi" in WHAT:
    for i in range(STEPS):
        timed("reverse-stepi", lambda: run("reverse-stepi"), lambda: None)
    for i in range(STEPS - 1):
        run("stepi")
    timed("stepi", lambda: run("stepi"), at_the_end)
if "reverse-continue" in WHAT:
    run(f"watch *(char *){NAME:#x}")
    timed("reverse-continue", lambda: run("reverse-continue"), where_the_name_was_written)
    run("delete")
if "seek" in WHAT:
    places = random.Random(4)
    for i in range(SEEKS):
        timed("seek", lambda: run(f"monitor seek {places.randrange(100)}%"), lambda: None)
    run("monitor seek end")
    answer = []
    timed("who-wrote", lambda: answer.append(run(f"monitor who-wrote {NAME:#x}/1")),
          lambda: None if "->" in answer[0] else answer[0].strip())
