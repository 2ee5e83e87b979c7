"""Text by others, made safe for a person's terminal: shown, never obeyed."""

from __future__ import annotations

import re

_C0_AND_C1 = (*range(0x20), *range(0x7F, 0xA0))
_DIRECTIONS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # with them text shows in another order than it has
_SHOWN = {code: f"\\x{code:02x}" for code in _C0_AND_C1 if code not in (0x09, 0x0A)} | {
    code: f"\\u{code:04x}" for code in _DIRECTIONS
}
_ONE_LINE = _SHOWN | {0x0A: "\\x0a"}
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_BEGUN = re.compile(r"\x1b(\[[0-9;:]{0,32})?\Z")


def printable(text: str) -> str:
    """`text` without colours, and with all other control characters but tab and line feed shown as their codes.

    With them a log could move the cursor, set the title, fill the clipboard, or answer in the user's place; with a
    colour it could hide what it says.
    """
    return _COLOUR.sub("", text).translate(_SHOWN)


def printable_line(text: str) -> str:
    """As `printable`, line feeds shown too: nobody can add a line that looks like ours."""
    return _COLOUR.sub("", text).translate(_ONE_LINE)


def begun_sequence(text: str) -> int:
    """Where a colour begins that may go on behind the end of `text`; its length if there is none."""
    found = _BEGUN.search(text)
    return found.start() if found else len(text)
