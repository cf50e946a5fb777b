"""What the engine tells of itself: `deja stats`, and the map of translated code for perf."""
import json
import os
import re
import subprocess
import unittest
from pathlib import Path

from guest_session import DEJA, INITRD, KERNEL, PROMPT, ReplayTest, TIMEOUT, deja

MEMORY = 256 << 20


class EngineReport(ReplayTest):
    def record_boot(self):
        recorder, _ = self.record_until_prompt()
        self.power_off(recorder)

    def test_stats_count_what_the_engine_did_for_a_recording(self):
        self.record_boot()
        done = deja("stats", "--json", self.recording)
        self.assertEqual(done.returncode, 0, done.stderr)
        stats = json.loads(done.stdout)
        steps = json.loads(deja("info", "--json", self.recording).stdout)["steps"]
        self.assertLess(steps * 0.99, stats["instructions"])  # warps are steps too
        self.assertLessEqual(stats["instructions"], steps)
        self.assertGreater(stats["blocks"], 10_000)
        self.assertGreater(stats["translated_instructions"], stats["blocks"])
        self.assertGreater(stats["links"], 1_000)
        self.assertLess(0, stats["translation_ns"])
        self.assertLess(stats["translation_ns"], stats["host_ns"])
        self.assertGreater(stats["dispatches"]["jump-miss"], 1_000)
        self.assertGreater(stats["helpers"]["cpuid"], 0)
        self.assertEqual(stats["cache_evictions"], 0)
        # One count by hand: every direct jump is linked from a dispatch of its own, and so is each way out of a group.
        linked = stats["dispatches"]["link"] + stats["dispatches"]["far-link"]
        self.assertLessEqual(linked, stats["links"])
        self.assertLessEqual(stats["links"], linked + stats["dispatches"]["group"])

        text = deja("stats", self.recording).stdout
        count = re.search(r"^ *([\d,]+)  blocks translated$", text, re.M)
        self.assertEqual(int(count[1].replace(",", "")), stats["blocks"])
        self.assertRegex(text, r"(?m)^ *[\d,]+  ms translating, [\d.]+ % of the time$")
        self.assertRegex(text, r"(?m)^ *[\d,]+    cpuid$")

    def test_code_cache_that_is_always_full_changes_nothing(self):
        self.record_boot()
        done = deja("stats", "--json", "--chaos-engine", 1, self.recording)
        self.assertEqual(done.returncode, 0, done.stderr)
        stats = json.loads(done.stdout)
        self.assertGreater(stats["cache_evictions"], 10)
        self.assertGreater(stats["evicted_blocks"], 1_000)

    def test_perf_map_names_the_translated_code(self):
        process = subprocess.Popen([DEJA, "run", "-m", "256M", "--kernel", KERNEL, "--initrd", INITRD, "--append",
                                    "console=ttyS0", "--perf-map"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        path = Path(f"/tmp/perf-{process.pid}.map")
        self.addCleanup(path.unlink, missing_ok=True)
        self.addCleanup(process.kill)
        output = b""
        while PROMPT not in output:
            data = os.read(process.stdout.fileno(), 65536)
            self.assertTrue(data, output)
            output += data
        process.communicate(b"poweroff -f\n", timeout=TIMEOUT)
        lines = path.read_text().splitlines()
        self.assertRegex(lines[0], r"^[0-9a-f]+ [0-9a-f]+ thunks$")
        kinds, ranges = set(), []
        for line in lines[1:]:
            found = re.fullmatch(r"([0-9a-f]+) ([0-9a-f]+) (user|kernel):([0-9a-f]+)(\.cold|\.copy)?", line)
            self.assertTrue(found, line)
            begin, size, level, address, part = found.groups()
            self.assertLess(int(address, 16), MEMORY)  # where the guest's code is
            ranges.append((int(begin, 16), int(begin, 16) + int(size, 16)))
            kinds.add((level, part))
        self.assertEqual(kinds, {(level, part) for level in ("user", "kernel") for part in (None, ".cold", ".copy")})
        ranges.sort()
        for (begin, end), (following, _) in zip(ranges, ranges[1:]):
            self.assertLess(begin, end)
            self.assertLessEqual(end, following)  # no two names for one address


if __name__ == "__main__":
    unittest.main()
