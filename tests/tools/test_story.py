"""The animation that README shows: the terminal that draws it, and that its files belong together."""

import re
import tempfile
import unittest
import xml.dom.minidom
from pathlib import Path

from paths import ROOT
import story
import svg_animation
from terminal import Terminal

STORY = ROOT / "docs/story"


class TerminalTest(unittest.TestCase):
    def shown(self, *texts: str, width: int = 10) -> list[str]:
        terminal = Terminal(width, 3)
        for text in texts:
            terminal.feed(text)
        return [terminal.text(row) for row in range(len(terminal.rows))]

    def test_cursor(self):
        self.assertEqual(self.shown("ab\r\nc\bd\ta"), ["ab", "d       a"])
        self.assertEqual(self.shown("abc\rx\x1b[K"), ["x"])
        self.assertEqual(self.shown("abc\r\x1b[C\x1b[P"), ["ac"])
        self.assertEqual(self.shown("one\r\ntwo\x1b[A\x1b[2DX\x1b[J"), ["oX"])

    def test_long_lines_wrap_when_the_next_character_comes(self):
        self.assertEqual(self.shown("0123456789", "\r\n", "x"), ["0123456789", "x"])
        self.assertEqual(self.shown("0123456789a"), ["0123456789", "a"])

    def test_sequences_that_come_in_pieces(self):
        self.assertEqual(self.shown("a\x1b", "[3", "1mb\x1b]0;title", "\x07c\x1b[?2004h"), ["abc"])

    def test_colours(self):
        terminal = Terminal(10, 3)
        terminal.feed("\x1b[1;31ma\x1b[22;94mb\x1b[mc")
        self.assertEqual(terminal.rows[0], [("a", (1, True)), ("b", (12, False)), ("c", (None, False))])

    def test_what_is_not_known_is_refused(self):
        with self.assertRaisesRegex(ValueError, "not known"):
            self.shown("\x1b[2;3H")

    def test_scrolling(self):
        terminal = Terminal(10, 3)
        terminal.feed("1\r\n2\r\n3\r\n4")
        self.assertEqual(terminal.top, 1)


class AnimationTest(unittest.TestCase):
    def test_each_state_of_a_line_is_shown_until_the_next_one(self):
        drawn = svg_animation.render([(1.0, "a"), (2.0, "b"), (4.0, "\r\n<c>")], 10, 3, "t")
        xml.dom.minidom.parseString(drawn)
        self.assertEqual(re.findall(r">([^<>]+)</text>", drawn), ["a", "ab", "&lt;c&gt;"])
        self.assertIn("10%{visibility:visible}20%{visibility:hidden}", drawn)
        self.assertEqual(drawn.count('class="h"'), 1)  # the end is there without an animation

    def test_what_scrolls_away_is_hidden(self):
        drawn = svg_animation.render([(1.0, "1\r\n2\r\n3"), (2.0, "\r\n4")], 10, 3, "t")
        self.assertIn("translateY(-18px)", drawn)
        self.assertEqual(drawn.count('class="h"'), 1)


class StoryTest(unittest.TestCase):
    def test_pauses_are_cut(self):
        self.assertEqual(story.without_pauses([(1.0, "a"), (31.0, "b"), (31.5, "c")]), [(1.0, "a"), (2.2, "b"), (2.7, "c")])

    def test_animation_and_text_are_those_of_the_recording(self):
        with tempfile.TemporaryDirectory() as folder:
            story.write_files(story.read_cast(STORY / "crash.cast"), Path(folder))
            for name in ("crash.svg", "crash.txt", "crash.cast"):
                self.assertEqual((Path(folder) / name).read_text(), (STORY / name).read_text(), f"tools/story.py --render: {name}")

    def test_what_readme_shows_stood_in_the_terminal(self):
        story_section = (ROOT / "README.md").read_text().partition("docs/story/crash.svg")[2].partition("\n## ")[0]
        shown = [line.strip() for line in re.findall(r"^    (.*)$", story_section, re.M) if line.strip() not in ("", "…")]
        # The terminal wraps long lines, README does not.
        stood = (STORY / "crash.txt").read_text()
        unwrapped = re.sub(rf"^(.{{{story.WIDTH}}})\n", r"\1", stood, flags=re.M)
        self.assertGreater(len(shown), 10)
        for line in shown:
            self.assertIn(line, unwrapped)


if __name__ == "__main__":
    unittest.main()
