"""Where something stands that a person wrote. Apart from what finds it, because the daemon always imports this."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands that a person wrote.

    Attributes:
        file: path of the file, or the name of the variable it came from.
        line: 1-based; None where none can be told.
        key: the dotted key, or "".
    """

    file: str
    line: int | None
    key: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}" if self.key else where


def dotted(keys: Sequence[str]) -> str:
    """The parts of a key as TOML writes them."""
    return ".".join(key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"' for key in keys)
