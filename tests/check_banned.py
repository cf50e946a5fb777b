#!/usr/bin/env python3
"""Checks the source for calls that would let the host leak into the machine: each with its reason and replacement.

docs/determinism.md gives the rules; this is the part of them that a search can hold up. Comments and string literals
are not searched. An exception is made here, in the rule, where a reviewer sees it, never by a mark in the source.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS = tuple(re.search(r"set\(DEJA_LAYERS ([\w\s]+)\)", (ROOT / "CMakeLists.txt").read_text()).group(1).split())
MACHINE_STATE = ("guest", "decode", "semantics", "translate", "execute", "devices", "machine")
ABOVE_THE_MACHINE = LAYERS[LAYERS.index("checkpoint"):]


@dataclass(frozen=True)
class Rule:
    pattern: str
    reason: str
    instead: str
    layers: tuple[str, ...] = LAYERS
    except_in: tuple[str, ...] = ()  # path prefixes below src/
    only_in: tuple[str, ...] = ()    # likewise; empty: all of the layers
    in_tests: bool = False           # unit tests may do more than the machine, unless the rule says otherwise


def call(names: str) -> str:
    """Matches calls of libc functions, not methods or longer names that end alike."""
    return rf"(?<![\w.>:])(?:::|std::)?(?:{names})\s*\("


# Where text for people is made of pieces, some of which come from recordings, guests and names of files.
TEXT_MADE_IN = ("cli/", "gdb/", "inputs/monitor.cc", "inputs/console.cc", "inputs/host_inputs.cc", "replay/live_session.cc",
                "replay/record_session.cc", "replay/replay_session.cc", "replay/machine_report.cc", "query/who_wrote.cc",
                "timeline/recorded_state.cc")
SHOWN_INSTEAD = "say(), tell() or note() of cli/messages.h, the log, or an Error; they show what a terminal would obey"
TIME_INSTEAD = "guest/clock.h for guest time; inputs/host_clock.h for pacing and progress"
RULES = [
    Rule(r"\bstd::unordered_(?:multi)?(?:map|set)\b|\bstd::hash\b",
         "its order depends on the library and on addresses", "a sorted std::vector, std::map, or a table by page",
         layers=MACHINE_STATE),
    Rule(r"\bstd::chrono\b|#\s*include\s*<chrono>", "host time", TIME_INSTEAD,
         except_in=("inputs/", "timeline/work_queue.cc")),  # there: how often to look for Ctrl-C
    Rule(call("gettimeofday|clock_gettime|ftime|timespec_get")
         + r"|(?<![\w.>:])(?:::|std::)?(?:time\s*\(\s*(?:NULL|nullptr|0|&\s*\w+)\s*\)|(?<!\w )(?<!& )clock\s*\(\s*\))",
         "host time", TIME_INSTEAD, except_in=("inputs/", "execute/host/stopwatch.h")),  # there: for --stats
    Rule(call("localtime|localtime_r|mktime|strftime"), "the host's time zone and language",
         "arithmetic on the guest's own date", layers=MACHINE_STATE),
    Rule(r"\bfmt::print\b|\bstd::(?:cout|cerr|clog)\b|\bwrite\s*\(\s*(?:1|2|STD(?:OUT|ERR)_FILENO)\b"
         r"|\bfwrite\s*\([^;]*\bstd(?:out|err)\b|"
         + call("printf|fprintf|vprintf|vfprintf|dprintf|puts|fputs|putchar|putc|fputc|perror|psignal"),
         "text of others may steer a terminal and forge lines", SHOWN_INSTEAD, 
         except_in=("base/log.cc", "base/check.cc", "cli/messages.cc", "cli/progress_bar.cc", "inputs/host_inputs.cc",
                    "gdb/launch.cc", "execute/host/host_signals.cc")),
    Rule(r"\bfmt::(?:format|vformat|format_to\w*|join|to_string)\b", "text of others is put in as it is",
         "show() of base/printable.h",  only_in=TEXT_MADE_IN,
         # There: options and their help, gdb's protocol, commands for gdb.
         except_in=("cli/options/arguments.cc", "cli/options/drive_option.cc", "cli/options/engine_options.cc", "cli/options/machine_options.cc",
                    "cli/reference.cc",
                    "gdb/registers.cc", "gdb/server.cc", "gdb/symbol_commands.cc", "gdb/launch.cc")),
    Rule(r"\.dump\s*\(", "it lets C1 and bidirectional controls through", "json_text() of cli/json_text.h", layers=("cli",),
         except_in=("cli/json_text.h", "cli/engine_report.cc")),  # there: numbers
    Rule(r"\bNavigator::open\b", "nobody would be told that the recording is damaged", "open_recording() of cli/options/moment.h",
         layers=("cli",), except_in=("cli/options/moment.cc",)),
    Rule(r"\b(?:__builtin_ia32_rdtscp?|__rdtscp?|_rdtscp?)\b|\brdtscp?\b(?=[^\n]*\basm\b)", "host time",
         TIME_INSTEAD, except_in=("inputs/",)),
    Rule(call("rand|srand|srandom|rand_r|drand48|lrand48|arc4random"), "hidden global state, no seed to print",
         "a generator with an explicit seed that is printed", in_tests=True),
    Rule(r"\bstd::(?:random_device|default_random_engine)\b", "no seed to print, differs between libraries",
         "std::mt19937_64 with an explicit seed that is printed; entropy for the guest comes through inputs/",
         in_tests=True),
    Rule(call("getrandom|getentropy"), "entropy enters only through the one door", "inputs/",
         except_in=("inputs/",)),
    Rule(r"/dev/u?random\b", "entropy enters only through the one door", "inputs/", except_in=("inputs/",)),
    Rule(call("RAND_bytes|RAND_priv_bytes"), "entropy enters only through the one door", "inputs/",
         except_in=("inputs/",)),
    Rule(r"\b(?:_rdrand|_rdseed)\w*|\b__builtin_ia32_rd(?:rand|seed)\w*", "entropy of the host", "inputs/",
         except_in=("inputs/",)),
    Rule(call("sleep|usleep|nanosleep|clock_nanosleep"), "host time; a sleeping machine misses its input",
         "inputs/, which waits for input and time together", except_in=("inputs/", "sandbox/helper_process.cc")),
    Rule(r"\bstd::this_thread::sleep_\w+", "host time; a sleeping machine misses its input",
         "inputs/, which waits for input and time together", except_in=("inputs/",)),
    Rule(call("getenv|secure_getenv"), "the environment is not part of the machine's configuration",
         "an option read in cli/", layers=MACHINE_STATE),
    Rule(r"\bstd::regex\b|#\s*include\s*<regex>", "slow, and recursion depth depends on hostile text",
         "a hand-written scan of the text", in_tests=True),
    Rule(r"\bstd::(?:thread|async|jthread)\b", "one thread owns the machine; others may only read pages handed over",
         "work between slices, or a thread in eventlog/ or inputs/", layers=MACHINE_STATE),
    Rule(call("gets|strcpy|strcat|sprintf|vsprintf|strtok|alloca"), "no bound on what hostile input makes of it",
         "std::string, std::span and fmt", in_tests=True),
    Rule(call("atoi|atol|atoll|atof"), "accepts anything", "std::from_chars with its error reported",
         in_tests=True),
    Rule(r"(?<![\w_])assert\s*\(|#\s*include\s*<cassert>|#\s*include\s*<assert\.h>",
         "gone from release builds, says little", "DEJA_CHECK for our own invariants, Result for what users cause"),
    Rule(r"(?<![\w>])::open(?:at)?\s*\(|" + call("fopen|openat2?") + r"|\bstd::i?fstream\b",
         "a recording may come from anybody, and what bears a name in it may be a link, a FIFO, or another's file",
         "open_recording_file() of eventlog/recording_file.h for what is in a recording, find_input() for what it was "
         "made from",
         layers=("eventlog", "checkpoint", "replay", "timeline", "query"),
         except_in=("eventlog/recording_file.cc",
                    "eventlog/append_file.cc", "eventlog/small_file.cc", "eventlog/packed_recording.cc",
                    "replay/screenshot.cc",  # these make new files
                    "eventlog/input_files.cc",  # what the user named, and find_input() itself
                    "eventlog/manifest.cc", "eventlog/temp_dir_for_test.h")),  # there: /proc/cpuinfo
    Rule(r"\boriginal_path\b", "a path in a manifest is information, nothing that anybody opens",
         "find_input(), or recorded_file() of replay/replay_access.h",
         layers=ABOVE_THE_MACHINE,
         except_in=("replay/replay_access.cc",     # compares it
                    "replay/session_recorder.cc",  # of the machine that the user has described
                    "cli/verbs/info.cc")),          # shows it
    Rule(r"\bmachine\.serial\b", "what a recorder's lines were connected to is information, nothing to open",
         "branch_serial() of timeline/branch.h",
         layers=ABOVE_THE_MACHINE,
         except_in=("timeline/branch.cc", "replay/session_recorder.cc",  # writes it
                    "replay/replayer.cc")),                              # which line was the terminal
    Rule(call("strerror|strerror_r|perror"), "does not say which of the host's limits is behind an error",
         "host_error() of base/host_limits.h",
         except_in=("base/host_limits.cc",)),
    Rule(r"%p\b", "prints a host pointer", "the guest address or an index", layers=MACHINE_STATE),
    Rule(r"\bstd::(?:map|set|multimap|multiset)<\s*(?:const\s+)?[\w:]+\s*\*", "orders by host address",
         "an index or a guest address as the key", layers=MACHINE_STATE),
]

# Comments and literals, in one pass so that a quote inside a comment opens nothing. Include lines keep theirs.
NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'',
                      re.S)
SEARCHES_LITERALS = ("/dev/", "%p")


def without(text: str, comments_only: bool) -> str:
    """The text with comments (and literals) blanked, lines kept."""
    def blank(match: re.Match) -> str:
        found = match.group(0)
        if comments_only and not found.startswith(("//", "/*")):
            return found
        return re.sub(r"[^\n]", " ", found)
    return NOT_CODE.sub(blank, text)


def check_text(path: str, text: str) -> list[str]:
    """Problems of one file; path is relative to src/."""
    layer, is_test = path.split("/")[0], path.endswith(("_test.cc", "_for_test.h"))
    code, literals = without(text, False), without(text, True)
    problems = []
    for rule in RULES:
        if (layer not in rule.layers or path.startswith(rule.except_in) or not path.startswith(rule.only_in or "")
                or (is_test and not rule.in_tests)):
            continue
        searched = literals if rule.pattern.startswith(SEARCHES_LITERALS) else code
        for match in re.finditer(rule.pattern, searched):
            line = text.count("\n", 0, match.start()) + 1
            problems.append(f"src/{path}:{line}: '{match.group(0).strip()}' is banned here: {rule.reason}; "
                            f"use {rule.instead}")
    return problems


def main() -> int:
    problems = []
    for file in sorted((ROOT / "src").rglob("*")):
        if file.suffix in (".h", ".cc", ".c", ".inc"):
            problems += check_text(str(file.relative_to(ROOT / "src")), file.read_text())
    print("\n".join(problems) or f"banned calls: none of {len(RULES)} rules broken")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
