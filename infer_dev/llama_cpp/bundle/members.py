"""What an archive holds, whatever its format, and why one is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["file", "folder", "link", "hard link"]

SHOWN_MOST = 120
DAMAGED = "copy or download it again, and compare its sha256 with the publisher's"
HOSTILE = "no tool that makes bundles writes this: do not trust the archive, get one from its publisher"
REPACK = "pack it again as .tar.gz; `infer-dev bundle create` does it"


class RefusalError(Exception):
    """Why an archive is not unpacked; `archive.unpack` adds which one it was.

    Args:
        reason: what is wrong, to stand after "cannot unpack ARCHIVE: "; names the member where there is one.
        hint: the next step.
    """

    def __init__(self, reason: str, *, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of an archive.

    Attributes:
        name: as the archive has it; may hold anything.
        kind: what is to be made.
        mode: permission bits, setuid and the like included.
        size_bytes: of a file's content, as the archive claims it.
        target: where a link or hard link leads.
        content: a file's bytes in pieces, valid until the next member is asked for; raises RefusalError if they are
            not what the archive promised.
    """

    name: str
    kind: Kind
    mode: int
    size_bytes: int = 0
    target: str = ""
    content: Iterable[bytes | memoryview] = ()


def shown(name: str) -> str:
    """A name from an archive, safe to print: in quotes, shortened, everything unprintable escaped."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return f"'{text if len(text) <= SHOWN_MOST else text[:SHOWN_MOST] + '…'}'"
