"""docs/options.md says what the program says, and its examples are understood. DEJA names the program."""

import os
import re
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path

from paths import ROOT
import options_doc

DEJA = Path(os.environ["DEJA"])
USAGE = 2  # the exit status for a command line that is not understood


class OptionsTest(unittest.TestCase):
    maxDiff = None

    def test_the_page_is_what_the_program_says(self):
        page = options_doc.make_page(options_doc.read_verbs(DEJA))
        self.assertEqual(page.splitlines(), options_doc.PAGE.read_text().splitlines(),
                         "run tools/options_doc.py, which makes docs/options.md anew")

    def test_every_option_has_a_meaning(self):
        for verb in options_doc.read_verbs(DEJA):
            for option in (option for options in verb.groups.values() for option in options):
                self.assertTrue(option.meaning, f"{verb.name} {option.name}")

    def test_examples_are_understood(self):
        """They fail, as what they name does not exist; but not for how they are written."""
        seen = 0
        with tempfile.TemporaryDirectory() as folder:
            environment = {"HOME": folder, "PATH": folder, "TMPDIR": folder}
            for example in sorted({text for group in options_doc.EXAMPLES.values() for text in group.values()}):
                if "--machine-behaviour" in example and "--machine-behaviour" not in options_doc.help_of(DEJA, "record"):
                    continue
                words = shlex.split(example)
                self.assertEqual(words[0], "deja", example)
                done = subprocess.run([DEJA, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True,
                                      stdin=subprocess.DEVNULL, timeout=100)
                self.assertNotEqual(done.returncode, USAGE, f"{example}\n{done.stderr}")
                self.assertNotRegex(done.stderr, "(?m)^deja: -", f"{example}: a value is refused")
                seen += 1
        self.assertGreater(seen, 50)

    def test_spellings_of_qemu_are_listed(self):
        source = (ROOT / "src/cli/options/arguments.cc").read_text()
        spellings = re.findall(r'Spelling\{"([\w-]+)"', source)
        self.assertGreater(len(spellings), 15)
        for name in spellings:
            self.assertRegex(options_doc.INTRODUCTION, rf"`-{name}\b", name)


class ParserTest(unittest.TestCase):
    def test_defaults_and_values(self):
        for head, meaning, expected in (
                ("--at TEXT=end", "the moment", ("text", "end", "the moment")),
                ("-m,--memory TEXT", "RAM: 32M [512M]", ("text", "512M", "RAM: 32M")),
                ("--sandbox TEXT:{on,off}=on", "confine", ("`on` or `off`", "on", "confine")),
                ("--every TEXT", "or `off` [200M]: the smaller", ("text", "200M", "or `off`: the smaller")),
                ("--quantum UINT:UINT in [1000 - 20000]", "steps", ("1,000 to 20,000", "", "steps")),
                ("REC TEXT ... REQUIRED", "names", ("text, repeatable", "required", "names")),
                ("--all", "every write", ("", "", "every write"))):
            option = options_doc.parse_option(head, meaning)
            self.assertEqual((option.value, option.default, option.meaning), expected)


if __name__ == "__main__":
    unittest.main()
