"""Where in a TOML text a dotted key is defined, for error messages.

`tomllib` gives no positions. But it can tell whether the first n lines, taken alone, define a key: the line
asked for is the first one that names the key and whose prefix of the file defines it.
"""

import tomllib
from collections.abc import Sequence


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """The 1-based line that defines `keys`, or its nearest defined parent; None where none can be told.

    Args:
        text: a valid TOML document.
        keys: the dotted key's parts, e.g. ("instance", "glm", "server", "port").
    """
    lines = text.split("\n")
    for depth in range(len(keys), 0, -1):
        wanted = keys[:depth]
        for number, line in enumerate(lines, start=1):
            if wanted[-1] in line and _defines(lines, number, wanted):
                return number
    return None


def _defines(lines: Sequence[str], count: int, keys: Sequence[str]) -> bool:
    """Whether the first `count` lines, or the statement cut off there once complete, define `keys`."""
    for end in range(count, len(lines) + 1):
        try:
            node: object = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # the cut fell inside a multi-line value
        for key in keys:
            if not isinstance(node, dict) or key not in node:
                return False
            node = node[key]
        return True
    return False
