"""Where in a TOML text a dotted key is defined, for error messages.

`tomllib` gives no positions. But a statement of a valid document, taken alone, is a valid document too: so the
text is cut into its statements, and each tells the keys it defines under the table header before it.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

_CLOSING = ("'''", '"""', "]", "}")  # one of these stands on the last line of a statement of several lines


def line_of_item(text: str, keys: Sequence[str], item: int, values: Sequence[object]) -> int | None:
    """The 1-based line of one item of the array at `keys`; that of the key where the item cannot be found.

    Args:
        text: a valid TOML document.
        keys: the array's dotted key.
        item: which one, from 0.
        values: the array; its strings are looked for one after the other, as they are usually written.
    """
    start = _lines(text).get(tuple(keys))
    if start is None:
        return line_of(text, keys)
    lines = text.split("\n")
    number, column = start, 0
    for value in values[: item + 1]:
        written = (f'"{value}"', f"'{value}'") if isinstance(value, str) else (str(value),)
        while number <= len(lines):
            hits = [at for one in written if (at := lines[number - 1].find(one, column)) >= 0]
            if hits:
                column = min(hits) + 1
                break
            number, column = number + 1, 0
        else:
            return start
    return number


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """The 1-based line that defines `keys`, or its nearest defined parent; None where none can be told.

    Args:
        text: a valid TOML document.
        keys: the dotted key's parts, e.g. ("instance", "glm", "server", "port").
    """
    lines = _lines(text)
    for depth in range(len(keys), 0, -1):
        if number := lines.get(tuple(keys[:depth])):
            return number
    return None


@lru_cache(maxsize=4)
def _lines(text: str) -> Mapping[tuple[str, ...], int]:
    """Every key and table of the document with the line of its first mention."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, defined, is_header in _statements(text):
        paths = list(_paths(defined))
        if is_header:
            table = ()
        for path in paths:
            found.setdefault((*table, *path), number)
        if is_header:
            table = paths[-1]
    return found


def _statements(text: str) -> Iterator[tuple[int, object, bool]]:
    """The line each statement begins on, what it defines, and whether it is a table header."""
    lines = text.split("\n")
    start = 0
    while start < len(lines):
        for end in range(start, len(lines)):
            if end > start and not any(mark in lines[end] for mark in _CLOSING):
                continue
            try:
                defined = tomllib.loads("\n".join(lines[start : end + 1]))
            except tomllib.TOMLDecodeError:
                continue  # the cut fell inside a value of several lines
            if defined:
                yield start + 1, defined, lines[start].lstrip().startswith("[")
            break
        start = end + 1


def _paths(node: object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*above, key)
            yield from _paths(value, (*above, key))
