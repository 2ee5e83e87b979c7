"""The lines of a log that are kept: their level, which of them are shown, how they are wrapped. No terminal here."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

from rich.cells import get_character_cell_size

MOST_LINES = 10_000
SLACK = 2_000  # so many more may be there before the oldest are dropped: not at every line
MOST_CHARS = 4_000  # of one line; what is longer is cut

# llama-server: "0.00.019.193 E gguf_init: …"; others write the word.
LETTER = re.compile(r"(?:[\d.:]+ )?([DIWE]) ")
WORD = re.compile(r"\b(?:(error|failed|fatal|critical|abort\w*|exception)|(warn\w*))\b", re.IGNORECASE)


class Level(IntEnum):
    """How much a line matters; also the least that is shown."""

    ALL = 0
    INFO = 1
    WARNING = 2
    ERROR = 3


LETTERS = {"D": Level.ALL, "I": Level.INFO, "W": Level.WARNING, "E": Level.ERROR}


def level_of(line: str) -> Level:
    """The level that a line tells, by llama-server's letter or else by its words; INFO if it tells none."""
    if letter := LETTER.match(line):
        return LETTERS[letter[1]]
    if word := WORD.search(line):
        return Level.ERROR if word[1] else Level.WARNING
    return Level.INFO


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the screen: characters `start` to `end` of the line with that number."""

    number: int
    start: int
    end: int


class Lines:
    """At most MOST_LINES + SLACK lines, and the rows they make.

    Attributes:
        rows: what is to be shown, top to bottom.
        dropped: how many lines were dropped since the beginning: numbers go on over that.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.dropped = 0
        self._lines: list[str] = []
        self._width = 0  # 0: lines are not wrapped
        self._least = Level.ALL

    def clear(self) -> None:
        """Forget all lines."""
        self.dropped += len(self._lines)
        self._lines.clear()
        self.rows.clear()

    def add(self, text: str) -> int:
        """Lines of text, complete; returns how many rows were dropped at the top."""
        new = [line[:MOST_CHARS].expandtabs() for line in text.split("\n")[-MOST_LINES - 1 :]]
        if new and not new[-1]:
            new.pop()
        first = self.dropped + len(self._lines)
        self._lines += new
        for number, line in enumerate(new, first):
            self._add_rows(number, line)
        return self._trim() if len(self._lines) > MOST_LINES + SLACK else 0

    def _trim(self) -> int:
        gone = len(self._lines) - MOST_LINES
        del self._lines[:gone]
        self.dropped += gone
        rows = next((index for index, row in enumerate(self.rows) if row.number >= self.dropped), len(self.rows))
        del self.rows[:rows]
        return rows

    def arrange(self, *, width: int, least: Level) -> None:
        """Make the rows anew: wrapped to `width` cells (0: not), of lines at or above a level."""
        if (width, least) == (self._width, self._least):
            return
        self._width, self._least = width, least
        self.rows.clear()
        for number, line in enumerate(self._lines, self.dropped):
            self._add_rows(number, line)

    def _add_rows(self, number: int, line: str) -> None:
        if self._least > Level.ALL and level_of(line) < self._least:
            return
        start = 0
        for end in self._ends(line):
            self.rows.append(Row(number, start, end))
            start = end

    def _ends(self, line: str) -> Iterable[int]:
        """Where the rows of a line end: as many characters each as have room in `width` cells, at least one."""
        width = self._width
        if not width:
            return (len(line),)
        if line.isascii():  # one cell each
            return (*range(width, len(line), width), len(line))
        ends, cells = [], 0
        for at, character in enumerate(line):
            needed = get_character_cell_size(character)
            if cells + needed > width and cells:
                ends.append(at)
                cells = 0
            cells += needed
        return (*ends, len(line))

    def line(self, number: int) -> str:
        """The line of that number."""
        return self._lines[number - self.dropped]

    def text(self, row: Row) -> str:
        """What stands in a row."""
        return self.line(row.number)[row.start : row.end]

    def find(self, is_it: Callable[[str], bool], *, start: int, step: int) -> int | None:
        """The first row from `start` on, in the direction of `step`, whose line `is_it`."""
        index = start
        while 0 <= index < len(self.rows):
            if is_it(self.line(self.rows[index].number)):
                return index
            index += step
        return None
