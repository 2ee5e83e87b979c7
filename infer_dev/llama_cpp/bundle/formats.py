"""Archive formats, told by their first bytes, and what takes their compression off again.

Every decompressor gives pieces of bounded size, checks its checksums, and notices an early end.
"""

from __future__ import annotations

import bz2
import enum
import lzma
import tarfile
from typing import TYPE_CHECKING, Protocol, cast

import zstandard
from isal import igzip_lib

from infer_dev.llama_cpp.bundle.members import DAMAGED, HOSTILE, REPACK, RefusalError
from infer_dev.llama_cpp.bundle.pipeline import truncated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HEAD_BYTES = 512
"""How much of an archive `sniff` wants to see: a tar header."""
PIECE_BYTES = 1 << 20
PIECES_AHEAD = 4
MOST_STREAMS = 100_000
_IGZIP_ERROR = cast("type[Exception]", igzip_lib.error)  # isal's stub takes it for an instance
# What `xz -9` (65 MiB) and `zstd --ultra -22` or `--long` (128 MiB) need, so that all that people make is installed;
# the common levels need 9 and 8 MiB. A header of a few bytes may ask for 4 GiB (xz) or 3.75 TiB (zstd).
MOST_DICTIONARY_BYTES = 128 << 20
SMALLER = "pack it again with at most `xz -9` or `zstd --long=27`, or as .tar.gz"


class Format(enum.Enum):
    """The container, or the compression of a tar."""

    TAR = "tar"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"
    ZIP = "zip"


_MAGIC = (
    (b"\x1f\x8b", Format.GZIP),
    (b"BZh", Format.BZIP2),
    (b"\xfd7zXZ\0", Format.XZ),
    (b"\x28\xb5\x2f\xfd", Format.ZSTD),
    (b"PK\x03\x04", Format.ZIP),
    (b"PK\x05\x06", Format.ZIP),
)
_OTHERS = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"!<arch>", "a Debian package or a static library"),
    (b"\x7fELF", "a program or library by itself"),
    (b"<", "a web page"),
)


def sniff(head: bytes) -> Format | None:
    """The format that begins so; None if it is none of those known here."""
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    head = head[:HEAD_BYTES]
    if len(head) < HEAD_BYTES:
        return None
    if not head.strip(b"\0"):
        return Format.TAR  # an empty one: its end mark
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return None
    return Format.TAR


def not_an_archive(head: bytes) -> RefusalError:
    """What to say of a file that `sniff` knows nothing of."""
    for magic, what in _OTHERS:
        if head.startswith(magic):
            return RefusalError(f"it is {what}", hint=REPACK)
    return RefusalError("it is not an archive", hint="tar, tar.gz, tar.bz2, tar.xz, tar.zst and zip are known")


def decompressed(chunks: Iterable[bytes], kind: Format) -> Iterator[bytes]:
    """The tar inside, in pieces of at most 1 MiB.

    Raises:
        RefusalError: it is damaged, or ends early.
    """
    try:
        if kind is Format.ZSTD:
            yield from _zstd(chunks)
        elif kind is Format.TAR:
            yield from chunks
        else:
            yield from _streams(chunks, _ENGINES[kind], kind)
    except MemoryError as err:
        raise _not_enough_memory() from err
    except (_IGZIP_ERROR, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError, ValueError) as err:
        said = str(err)
        if "too much memory" in said or "Memory usage limit" in said:  # zstd's words, liblzma's
            raise RefusalError(
                f"to unpack it takes a window of more than {MOST_DICTIONARY_BYTES >> 20} MiB in memory", hint=SMALLER
            ) from err
        if "not enough memory" in said:  # zstd's
            raise _not_enough_memory() from err
        raise RefusalError(f"its {kind.value} data is damaged: {err}", hint=DAMAGED) from err


def _not_enough_memory() -> RefusalError:
    return RefusalError("there is not enough memory to unpack it", hint=f"free some, or {SMALLER}")


class _Engine(Protocol):
    """What the decompressors of isal, bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


_ENGINES: dict[Format, Callable[[], _Engine]] = {
    Format.GZIP: lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
    Format.BZIP2: bz2.BZ2Decompressor,
    Format.XZ: lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_DICTIONARY_BYTES),
}


def _streams(chunks: Iterable[bytes], make: Callable[[], _Engine], kind: Format) -> Iterator[bytes]:
    """One or more compressed streams after each other, as pigz and pbzip2 write them; zeros may follow."""
    engine: _Engine | None = None
    begun = 0
    for given in chunks:
        chunk = given
        while chunk:
            if engine is None:
                chunk = chunk.lstrip(b"\0") if begun else chunk
                if not chunk:
                    break
                engine = make()
                begun += 1
                if begun > MOST_STREAMS:
                    raise RefusalError(f"it is made of more than {MOST_STREAMS:,} {kind.value} streams", hint=HOSTILE)
            yield from _drained(engine, chunk)
            chunk = engine.unused_data if engine.eof else b""
            engine = None if engine.eof else engine
    if engine is not None or not begun:
        raise truncated(f"its {kind.value} data")


def _drained(engine: _Engine, chunk: bytes) -> Iterator[bytes]:
    yield engine.decompress(chunk, PIECE_BYTES)
    while not engine.eof and not engine.needs_input:
        yield engine.decompress(b"", PIECE_BYTES)


def _zstd(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Zstandard frames (RFC 8878), fed block by block.

    The library's own readers either give unbounded output or take an early end for the end; a block gives 128 KiB at
    most, and the walk over the blocks knows where a frame ends.
    """
    source = _Bytes(chunks)
    while magic := source.upto(4):
        number = int.from_bytes(magic, "little")
        if number & ~0xF == _ZSTD_SKIPPABLE:
            left = int.from_bytes(source.exactly(4), "little")
            while left:
                left -= len(source.exactly(min(left, PIECE_BYTES)))
            continue
        if magic != _ZSTD_MAGIC:
            raise zstandard.ZstdError("something else follows its end")
        yield from _zstd_frame(source)


def _zstd_frame(source: _Bytes) -> Iterator[bytes]:
    descriptor = source.exactly(1)
    flags = descriptor[0]
    single = flags >> 5 & 1
    content_size_bytes = (single, 2, 4, 8)[flags >> 6]
    dictionary_bytes = (0, 1, 2, 4)[flags & 3]
    rest = source.exactly((not single) + dictionary_bytes + content_size_bytes)
    engine = zstandard.ZstdDecompressor(max_window_size=MOST_DICTIONARY_BYTES).decompressobj()
    yield engine.decompress(_ZSTD_MAGIC + descriptor + rest)
    last = False
    while not last:
        header = source.exactly(3)
        number = int.from_bytes(header, "little")
        last = bool(number & 1)
        size_bytes = 1 if number >> 1 & 3 == _ZSTD_RLE else number >> 3
        if size_bytes > _ZSTD_BLOCK_BYTES:
            raise zstandard.ZstdError("a block is longer than blocks can be")
        yield engine.decompress(header + source.exactly(size_bytes))
    if flags >> 2 & 1:
        yield engine.decompress(source.exactly(4))
    if not engine.eof:
        raise zstandard.ZstdError("a frame does not end where it says")


_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = 0x184D2A50
_ZSTD_RLE = 1
_ZSTD_BLOCK_BYTES = 1 << 17


class _Bytes:
    """Takes a number of bytes at a time from chunks of any size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = b""
        self._at = 0

    def upto(self, count: int) -> bytes:
        """So many bytes, or b"" at the end."""
        return b"" if not self._fill() else self.exactly(count)

    def exactly(self, count: int) -> bytes:
        found = self._chunk[self._at : self._at + count]
        self._at += len(found)
        while len(found) < count:
            if not self._fill():
                raise truncated("its zstd data")
            more = self._chunk[self._at : self._at + count - len(found)]
            self._at += len(more)
            found += more
        return found

    def _fill(self) -> bool:
        """Whether there is a byte to take."""
        while self._at >= len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._chunk, self._at = chunk, 0
        return True
