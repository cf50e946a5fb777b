"""The checks of the source tree find what they are there for."""

import tempfile
import unittest
from pathlib import Path

import paths  # noqa: F401
import check_banned
import check_docs
import check_functions
import check_layers


class FunctionsTest(unittest.TestCase):
    def function(self, lines: int, indent: str = "", head: str = "void f(int a) {") -> str:
        return "".join(f"{indent}{line}\n" for line in [head, *["  g();"] * (lines - 2), "}"])

    def test_a_function_has_at_most_so_many_lines(self):
        self.assertEqual(check_functions.long_functions(self.function(80)), [])
        self.assertEqual(check_functions.long_functions("\n" + self.function(81)), [(2, 81)])
        self.assertEqual(check_functions.long_functions("class A {\n" + self.function(90, "  ") + "};\n"), [(2, 90)])

    def test_what_is_no_function_may_be_longer(self):
        for head in ("namespace f() {", "struct alignas(64) A {", "constexpr int kTable[] = {"):
            self.assertEqual(check_functions.long_functions(self.function(200, head=head)), [], head)


class LayersTest(unittest.TestCase):
    def problems(self, layer: str, line: str) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "CMakeLists.txt").write_text("set(DEJA_LAYERS base guest devices)\n")
            for name in ("base", "guest", "devices"):
                (root / "src" / name).mkdir(parents=True)
                (root / "src" / name / "a.h").write_text("#pragma once\n")
            (root / "src" / layer).mkdir(exist_ok=True)
            (root / "src" / layer / "b.cc").write_text(f"// one\n{line}\n")
            return check_layers.check(root)

    def test_own_and_lower_layers(self):
        for included in ("guest/a.h", "base/a.h"):
            self.assertEqual(self.problems("guest", f'#include "{included}"'), [])

    def test_higher_layer(self):
        (problem,) = self.problems("guest", '#include "devices/a.h"')
        self.assertIn("src/guest/b.cc:2: guest must not know devices", problem)

    def test_no_layer_and_no_such_file(self):
        self.assertIn("does not start with a layer", self.problems("guest", '#include "a.h"')[0])
        self.assertIn("does not exist", self.problems("guest", '#include "base/gone.h"')[0])
        self.assertIn("not in DEJA_LAYERS", self.problems("stray", "")[0])


class BannedTest(unittest.TestCase):
    def test_each_case(self):
        for text, count in {
            "std::unordered_map<int, int> m;": 1, "auto t = time(nullptr);": 1, "x.time(0); y->time(0);": 0,
            "// rand() is banned\n": 0, 'log("rand()");': 0, "::clock_gettime(0, &t);": 1, "assert(x);": 1,
            'open("/dev/urandom");': 1, "std::map<Page*, int> by;": 1, "static_assert(true);": 0,
            "char c = '\"'; srand(1);": 1, "constexpr u64 k = 1'000'000; rand();": 1, "Clock clock();": 0,
        }.items():
            self.assertEqual(len(check_banned.check_text("devices/x.cc", text)), count, text)

    def test_layers_and_tests(self):
        self.assertEqual(check_banned.check_text("inputs/host_clock.cc", "clock_gettime(0, &t);"), [])
        self.assertEqual(check_banned.check_text("devices/x_test.cc", "std::unordered_set<int> s;"), [])
        self.assertEqual(len(check_banned.check_text("devices/x_test.cc", "std::random_device d;")), 1)

    def test_what_a_recording_names_is_opened_in_one_place(self):
        for layer, text, count in (
                ("replay", "const int fd = ::open(path.c_str(), O_RDONLY);", 1), ("timeline", "std::ifstream in(path);", 1),
                ("checkpoint", "openat(dir, name, O_RDONLY);", 1), ("eventlog", "fopen(p, m);", 1),
                ("replay", "Recording::open(dir);", 0), ("timeline", "return open(dir, engine);", 0),
                ("inputs", "::open(path, O_WRONLY);", 0), ("gdb", "read_whole_file(input.original_path);", 1),
                ("cli", "parse_serial(m.machine.serial[0]);", 1), ("cli", "o.serial[0]", 0)):
            self.assertEqual(len(check_banned.check_text(f"{layer}/x.cc", text)), count, text)

    def test_text_for_people_is_shown_and_not_obeyed(self):
        for path, text, count in (
                ("cli/verbs/x.cc", 'fmt::print("{}", name);', 1), ("gdb/x.cc", "std::cout << name;", 1),
                ("linux/x.cc", "std::fputs(name.c_str(), stdout);", 1), ("replay/x.cc", "std::fwrite(p, 1, n, stderr);", 1),
                ("timeline/x.cc", "::write(STDERR_FILENO, p, n);", 1), ("disk/x.cc", "std::fwrite(p, 1, n, file);", 0),
                ("cli/verbs/x.cc", 'note("{}", fmt::format("{}", name));', 1), ("disk/x.cc", 'fmt::format("{}", name);', 0),
                ("gdb/monitor_commands.cc", 'fmt::join(names, ",");', 1), ("cli/verbs/x.cc", 'say("{}", show("{}", name));', 0),
                ("cli/verbs/x.cc", "json.dump(2);", 1), ("cli/messages.cc", "std::fputs(text, stderr);", 0),
                ("cli/verbs/x.cc", "Navigator::open(dir, engine);", 1), ("gdb/x.cc", "Navigator::open(dir, engine);", 0)):
            self.assertEqual(len(check_banned.check_text(path, text)), count, text)

    def test_message_names_place_reason_and_replacement(self):
        (problem,) = check_banned.check_text("devices/x.cc", "\nsleep(1);")
        self.assertRegex(problem, r"^src/devices/x\.cc:2: .*host time.*; use inputs/")


class DocsTest(unittest.TestCase):
    def problems(self, name: str, text: str) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for path in ("src/guest/ram.h", "src/execute/tlb/tlb.cc", "docs/time.md", "tests/isa/add.S", name):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text("# Time\n\n## How it *works*, here\n")
            (root / name).write_text(text)
            return check_docs.Checker(root).check()

    def test_files_that_are_there(self):
        self.assertEqual(self.problems("docs/a.md", "`src/guest/ram.h`, guest/ram.h:12, `execute/tlb/`, `ram.h`, `tlb.*`, "
                                                    "`tests/isa/*.S`. read/write, https://x.org/src/gone.h, ~/src/x/ and "
                                                    "[time](time.md#how-it-works-here), [top](#a)\n# A\n"), [])
        self.assertEqual(self.problems("src/guest/b.cc", "// execute/tlb/tlb.cc, docs/time.md.\nopen(\"docs/gone.md\");"), [])

    def test_files_that_are_not_there(self):
        for text in ("`src/guest/gone.h`", "guest/gone.h", "see docs/gone.md.", "`gone.cc`", "`tests/isa/*.cc`",
                     "[time](gone.md)", "[time](time.md#gone)"):
            self.assertEqual(len(self.problems("docs/a.md", text)), 1, text)
        self.assertEqual(self.problems("src/guest/b.cc", "x;\ny;  // as execute/tlb.cc does"),
                         ["src/guest/b.cc:2: there is no src/execute/tlb.cc"])


if __name__ == "__main__":
    unittest.main()
