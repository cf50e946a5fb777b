"""What a terminal shows for the output of programs: enough of one for a shell, a guest's console and gdb.

Rows are numbered from the first line ever printed, so nothing scrolls away; `top` is the first that a screen of the
given height still shows. Sequences that move about the screen are not known, and refused rather than shown wrongly.
"""

import re

TAB = 8
# What changes nothing here: titles and other operating system commands, modes, character sets, keypad.
IGNORED = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[?>=][\d;]*[a-zA-Z]|\x1b[()][A-Z0-9]|\x1b[=>78]")
CSI = re.compile(r"\x1b\[([\d;]*)([A-Za-z@])")
UNFINISHED = re.compile(r"\x1b(?:\[[\d;?>=]*|\][^\x07\x1b]*\x1b?|[()])?\Z")


class Terminal:
    """A cell is (character, style); a style is (colour 0 to 15 or None, bold)."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.rows = [[]]
        self.row = self.column = 0
        self.style = (None, False)
        self._rest = ""

    @property
    def top(self) -> int:
        return max(0, self.row + 1 - self.height)

    def text(self, row: int) -> str:
        return "".join(character for character, _ in self.rows[row]).rstrip()

    def feed(self, text: str) -> None:
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
            elif found := IGNORED.match(text, at):
                at = found.end()
            elif found := CSI.match(text, at):
                self._control(found[2], [int(number) for number in found[1].split(";") if number])
                at = found.end()
            elif UNFINISHED.match(text, at):
                self._rest = text[at:]
                return
            else:
                raise ValueError(f"a terminal sequence that is not known: {text[at:at + 12]!r}")

    def _put(self, character: str) -> None:
        if character == "\n":
            self._move_down()
        elif character == "\r":
            self.column = 0
        elif character == "\b":
            self.column = max(0, self.column - 1)
        elif character == "\t":
            self.column = min(self.width - 1, (self.column // TAB + 1) * TAB)
        elif character >= " ":
            if self.column == self.width:
                self.column = 0
                self._move_down()
            cells = self.rows[self.row]
            cells.extend([(" ", (None, False))] * (self.column + 1 - len(cells)))
            cells[self.column] = (character, self.style)
            self.column += 1

    def _move_down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])

    def _control(self, command: str, numbers: list[int]) -> None:
        count = numbers[0] if numbers else 0
        cells = self.rows[self.row]
        if command == "m":
            self._select_style(numbers or [0])
        elif command == "K" and count == 0:
            del cells[self.column:]
        elif command == "J" and count == 0:
            del cells[self.column:]
            del self.rows[self.row + 1:]
        elif command == "C":
            self.column = min(self.width - 1, self.column + max(1, count))
        elif command == "D":
            self.column = max(0, self.column - max(1, count))
        elif command == "A":
            self.row = max(self.top, self.row - max(1, count))
        elif command == "P":
            del cells[self.column:self.column + max(1, count)]
        elif command == "@":
            cells[self.column:self.column] = [(" ", self.style)] * max(1, count)
        else:
            raise ValueError(f"a terminal sequence that is not known: CSI {numbers} {command}")

    def _select_style(self, numbers: list[int]) -> None:
        colour, bold = self.style
        for number in numbers:
            if number == 0:
                colour, bold = None, False
            elif number in (1, 22):
                bold = number == 1
            elif 30 <= number <= 37 or 90 <= number <= 97:
                colour = number - 30 if number < 90 else number - 90 + 8
            elif number == 39:
                colour = None
        self.style = (colour, bold)
