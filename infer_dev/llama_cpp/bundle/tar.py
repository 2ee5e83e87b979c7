"""The members of a tar stream (tar(5): ustar, GNU long names, pax), read strictly and forwards only.

Header blocks are taken apart by the standard library; what spans blocks is read here, within limits: the library
trusts the sizes it is given, and up to Python 3.11.9 its pax parser can be kept busy for hours (CVE-2024-6232).
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from infer_dev.llama_cpp.bundle.members import DAMAGED, HOSTILE, REPACK, Kind, Member, RefusalError, shown
from infer_dev.llama_cpp.bundle.pipeline import truncated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = tarfile.BLOCKSIZE
MOST_HEADER_BYTES = 1 << 16
MOST_HEADERS = 8
MOST_HEADER_BYTES_IN_ALL = 16 << 20
"""Of long names and pax headers: 20,000 members with names of 800 bytes."""
MOST_PADDING_BYTES = 16 << 20
_KINDS: dict[bytes, Kind] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hard link",
}
_REFUSED = {
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a FIFO",
}


def members(pieces: Iterable[bytes]) -> Iterator[Member]:
    """What the tar holds, in its order; each one's content is to be taken before the next is asked for.

    Raises:
        RefusalError: it is damaged, ends early, or holds what no bundle has.
    """
    stream = _Stream(pieces)
    while (member := _next_member(stream)) is not None:
        yield member
        stream.skip_rest()
    _expect_padding(stream)


def _next_member(stream: _Stream) -> Member | None:
    """The next member with all that the headers before it say of it; None at the end."""
    said: dict[str, str] = {}
    for _ in range(MOST_HEADERS):
        info = _header(stream)
        if info is None:
            if said:
                raise RefusalError("it ends after a header that belongs to a further member", hint=DAMAGED)
            return None
        if info.type == tarfile.XGLTYPE:
            _refuse_common_names(_pax(_long_header(stream, info)))
        elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            said |= _pax(_long_header(stream, info))
        elif info.type == tarfile.GNUTYPE_LONGNAME:
            said["path"] = _text(_long_header(stream, info).partition(b"\0")[0])
        elif info.type == tarfile.GNUTYPE_LONGLINK:
            said["linkpath"] = _text(_long_header(stream, info).partition(b"\0")[0])
        else:
            return _member(stream, info, said)
    raise RefusalError(f"more than {MOST_HEADERS} headers belong to one member", hint=HOSTILE)


def _header(stream: _Stream) -> tarfile.TarInfo | None:
    """The next header block; None at the end mark."""
    block = stream.take(BLOCK)
    if not block.strip(b"\0"):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as err:
        raise RefusalError(f"a member's header is damaged: {err}", hint=DAMAGED) from err
    if info.size < 0:
        raise RefusalError(f"{shown(info.name)} says it has {info.size} bytes", hint=HOSTILE)
    return info


def _member(stream: _Stream, info: tarfile.TarInfo, said: dict[str, str]) -> Member:
    name = said.get("path", info.name)
    size_bytes = _size(name, said.get("size", str(info.size)))
    if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in said):
        raise RefusalError(f"{shown(name)} is stored as a sparse file", hint="pack it again without --sparse")
    if what := _REFUSED.get(info.type):
        raise RefusalError(f"{shown(name)} is {what}", hint=HOSTILE)
    kind = _KINDS.get(info.type)
    if kind is None:
        raise RefusalError(f"{shown(name)} is of an unknown kind ({ascii(info.type)[1:]})", hint=REPACK)
    if kind != "file" and size_bytes:
        raise RefusalError(f"{shown(name)} is a {kind}, and yet says it has {size_bytes} bytes", hint=HOSTILE)
    return Member(
        name=name,
        kind=kind,
        mode=info.mode,
        size_bytes=size_bytes,
        target=said.get("linkpath", info.linkname),
        content=stream.content(size_bytes, name),
    )


def _size(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):  # noqa: PLR2004 - digits of 2**64
        raise RefusalError(f"{shown(name)} says it has {shown(text)} bytes", hint=HOSTILE)
    return int(text)


def _long_header(stream: _Stream, info: tarfile.TarInfo) -> bytes:
    if info.size > MOST_HEADER_BYTES:
        raise RefusalError(f"the header of a member says it has {info.size:,} bytes", hint=HOSTILE)
    stream.header_bytes += info.size
    if stream.header_bytes > MOST_HEADER_BYTES_IN_ALL:
        raise RefusalError(
            f"the long headers of its members have more than {MOST_HEADER_BYTES_IN_ALL:,} bytes", hint=HOSTILE
        )
    return stream.take(-(-info.size // BLOCK) * BLOCK)[: info.size]


def _pax(data: bytes) -> dict[str, str]:
    """The records of a pax header: LENGTH, space, KEY=VALUE, newline; the length counts all of it."""
    found = {}
    at = 0
    while at < len(data):
        digits = data[at : at + 8].partition(b" ")[0]
        end = at + (int(digits) if digits.isdigit() else 0)
        key, equals, value = data[at + len(digits) + 1 : max(end - 1, at)].partition(b"=")
        if not equals or not key or end > len(data) or data[end - 1 : end] != b"\n":
            raise RefusalError("a pax header is damaged", hint=DAMAGED)
        at = end
        if key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse."):
            found[_text(key)] = _text(value)
    return found


def _refuse_common_names(said: dict[str, str]) -> None:
    """A global header may say many things, but one name, target or size for all members makes no sense."""
    if said:
        raise RefusalError(f"its global header sets {shown(min(said))} for all members", hint=HOSTILE)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _expect_padding(stream: _Stream) -> None:
    """Read to the end, so that checksums are checked; there may be zeros only."""
    seen = 0
    for piece in stream.rest():
        seen += len(piece)
        if bytes(piece).strip(b"\0"):
            raise RefusalError("something else follows after the end of the tar", hint=HOSTILE)
        if seen > MOST_PADDING_BYTES:
            raise RefusalError("more than 16 MiB of zeros follow after the end of the tar", hint=HOSTILE)


class _Stream:
    """A tar stream; hands out views, so that content is not copied on its way to the file."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")
        self._content_left = 0
        self._padding = 0
        self.header_bytes = 0

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        found = b"".join(self._views(count))
        if len(found) < count:
            raise truncated("a header" if found else "the list of members: the end mark is missing")
        return found

    def content(self, size_bytes: int, name: str) -> Iterator[memoryview]:
        """A file's content; what is not taken is skipped before the next header."""
        self._content_left, self._padding = size_bytes, -size_bytes % BLOCK

        def views() -> Iterator[memoryview]:
            for view in self._views(self._content_left):
                self._content_left -= len(view)
                yield view
            if self._content_left:
                raise truncated(shown(name))

        return views()

    def skip_rest(self) -> None:
        left = self._content_left + self._padding
        self._content_left = self._padding = 0
        if sum(len(view) for view in self._views(left)) < left:
            raise truncated("a member")

    def rest(self) -> Iterator[memoryview]:
        yield self._piece
        for piece in self._pieces:
            yield memoryview(piece)

    def _views(self, count: int) -> Iterator[memoryview]:
        """So many bytes in views, fewer at the end of the stream."""
        while count:
            if not self._piece:
                piece = next(self._pieces, None)
                if piece is None:
                    return
                self._piece = memoryview(piece)
            view, self._piece = self._piece[:count], self._piece[count:]
            count -= len(view)
            yield view
