"""An installed tree: the program runs from it, and every verb has its manual page and completion."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

BUILD = Path(os.environ["DEJA_BUILD"])
# Asks bash for what it would offer behind the words, the last of which may be empty.
ASK_BASH = """
set -eu
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_deja
printf '%s\\n' "${COMPREPLY[@]}"
"""


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="deja-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.prefix = cls.folder / "prefix"
        subprocess.run(["cmake", "--install", BUILD, "--prefix", cls.prefix, "--strip"], check=True, stdout=subprocess.DEVNULL)
        cls.share = cls.prefix / "share"
        cls.deja = cls.prefix / "bin" / "deja"
        cls.verbs = cls.listed_verbs()

    @classmethod
    def output(cls, *command, **options):
        return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout

    @classmethod
    def listed_verbs(cls):
        lines = cls.output(cls.deja, "help").split("Subcommands:\n", 1)[1].splitlines()
        return [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]

    def long_options(self, verb):
        lines = self.output(self.deja, verb, "--help").splitlines()
        return sorted({word.strip(",") for line in lines if line.startswith("  -")
                       for word in line.replace(",", " ").split()[:2] if word.startswith("--")})

    def test_the_program_brings_the_libraries_that_differ_between_distributions(self):
        self.assertGreater(len(self.verbs), 15)
        linked = self.output("ldd", self.deja)
        for library in ("libfmt", "libZydis"):
            line = next(line for line in linked.splitlines() if library in line)
            path = Path(line.split("=>")[1].split()[0]).resolve()
            self.assertTrue(path.is_relative_to(self.prefix.resolve()), line)
        self.assertIn("deja ", self.output(self.deja, "--version"))

    def test_every_verb_has_a_manual_page_with_its_options(self):
        pages = {page.name for page in (self.share / "man" / "man1").iterdir()}
        self.assertEqual(pages, {"deja.1"} | {f"deja-{verb}.1" for verb in self.verbs})
        for verb in self.verbs:
            page = (self.share / "man" / "man1" / f"deja-{verb}.1").read_text()
            self.assertTrue(page.startswith(".TH deja\\-"), page[:40])
            for option in self.long_options(verb):
                self.assertIn("\\fB" + option.replace("-", "\\-") + "\\fR", page, f"{verb}: {option}")

    def complete(self, *words):
        home = self.folder / "home"
        (home / "deja" / "crash.deja").mkdir(parents=True, exist_ok=True)
        script = self.share / "bash-completion" / "completions" / "deja"
        return self.output("bash", "-c", ASK_BASH, "bash", script, "deja", *words, cwd=home,
                           env=os.environ | {"XDG_DATA_HOME": str(home)}).splitlines()

    def test_bash_completes_verbs_options_values_and_recordings(self):
        self.assertEqual(sorted(self.complete("")), sorted(self.verbs))
        self.assertEqual(self.complete("scr"), ["screenshot"])
        for verb in self.verbs:
            offered = self.complete(verb, "--")
            self.assertEqual(sorted(offered), self.long_options(verb), verb)
        self.assertEqual(self.complete("record", "--sandbox", ""), ["on", "strict", "off"])
        self.assertEqual(self.complete("replay", "cr"), ["crash"])
        self.assertIn("latest", self.complete("info", ""))

    def test_a_name_of_a_recording_is_never_run_by_completion(self):
        names = ("$(touch run)x", "`touch run`y", "two words")
        for name in names:
            (self.folder / "home" / "deja" / f"{name}.deja").mkdir(parents=True)
        offered = self.complete("info", "")
        self.assertFalse((self.folder / "home" / "run").exists())
        self.assertLessEqual(set(names), set(offered))
        self.assertEqual(self.complete("info", "two"), ["two words"])

    def test_libraries_come_from_no_place_that_others_choose(self):
        for program in (BUILD / "deja", self.deja):
            listed = self.output("readelf", "-d", program)
            places = [place for line in re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", listed) for place in line.split(":")]
            for place in places:
                self.assertRegex(place, r"^(\$ORIGIN)?/", f"{program}: {listed}")

    def test_what_is_installed_can_be_changed_by_nobody_else(self):
        prefix = self.folder / "open"
        subprocess.run(["sh", "-c", 'umask 0; exec "$@"', "sh", "cmake", "--install", BUILD, "--prefix", prefix],
                       check=True, stdout=subprocess.DEVNULL)
        # The prefix itself is its owner's affair.
        for path in [path for path in prefix.rglob("*") if not path.is_symlink()]:
            self.assertEqual(path.stat().st_mode & 0o022, 0, path)

    def test_zsh_and_fish_know_every_verb_and_option(self):
        zsh = self.share / "zsh" / "vendor-completions" / "_deja"
        fish = self.share / "fish" / "vendor_completions.d" / "deja.fish"
        for verb in self.verbs:
            self.assertIn(f"'{verb}:", zsh.read_text())
            self.assertIn(f"-a {verb} -d", fish.read_text())
            for option in self.long_options(verb):
                if option != "--help":
                    self.assertIn(f"{option}", zsh.read_text())
                    self.assertIn(f"-l {option[2:]} ", fish.read_text())
        for shell, script in (("zsh", zsh), ("fish", fish)):
            if shutil.which(shell):
                subprocess.run([shell, "-n", script], check=True)

    def test_documents_and_tools_for_guests_are_there(self):
        for file in ("doc/dejavm/README.md", "doc/dejavm/docs/determinism.md", "doc/dejavm/copyright",
                     "dejavm/guest/deja-mark", "dejavm/guest/deja-mark.c"):
            self.assertTrue((self.share / file).is_file(), file)


if __name__ == "__main__":
    unittest.main()
