"""The members of a zip. Its directory is at the end, so it is read from a file, in the directory's order."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, cast

from infer_dev.llama_cpp.bundle.formats import PIECE_BYTES
from infer_dev.llama_cpp.bundle.members import DAMAGED, HOSTILE, REPACK, Kind, Member, RefusalError, shown
from infer_dev.llama_cpp.bundle.pipeline import ahead

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import IO

MOST_DIRECTORY_BYTES = 6 << 20
MOST_TARGET_BYTES = 4096
_ENCRYPTED = 0x1 | 0x40
_LOCAL_HEADER_BYTES = 30
_UNIX_MODE = 16
_KINDS: dict[int, Kind] = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
_REFUSED = {
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def members(fd: int, *, most_members: int) -> Iterator[Member]:
    """What the zip holds; each one's content is to be taken before the next is asked for.

    Raises:
        RefusalError: it is damaged, lies about sizes, is encrypted, or holds what no bundle has.
    """
    with os.fdopen(os.dup(fd), "rb") as file:
        archive = _open(file, most_members)
        infos = archive.infolist()
        _refuse_overlaps(infos, archive.start_dir)
        for info in infos:
            with contextlib.closing(_content(archive, info)) as content:
                yield _member(archive, info, content)


def _open(file: IO[bytes], most_members: int) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(cast("IO[bytes]", _Frugal(file)), metadata_encoding="utf-8")
    except UnicodeDecodeError as err:
        raise RefusalError(f"the name {ascii(err.object)[1:]} is not UTF-8", hint=REPACK) from err
    except _BROKEN as err:
        raise RefusalError(f"its list of members is damaged: {err}", hint=DAMAGED) from err
    if len(archive.filelist) > most_members:
        raise too_many(most_members)
    return archive


def too_many(most_members: int) -> RefusalError:
    return RefusalError(f"it has more than {most_members:,} members", hint="a bundle has a few dozen: look inside")


def _refuse_overlaps(infos: list[zipfile.ZipInfo], directory_offset: int) -> None:
    """Members that share bytes make a bomb of a small file (CVE-2024-0450, checked since Python 3.11.8 only)."""
    end = directory_offset
    for info in sorted(infos, key=lambda one: one.header_offset, reverse=True):
        name_bytes = len(info.orig_filename.encode("utf-8", "surrogateescape"))
        if info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + info.compress_size > end:
            raise RefusalError(f"{shown(info.orig_filename)} lies about its packed size", hint=HOSTILE)
        end = info.header_offset


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, content: Iterator[bytes]) -> Member:
    name = info.orig_filename
    mode = info.external_attr >> _UNIX_MODE
    kind_bits = stat.S_IFMT(mode)
    if what := _REFUSED.get(kind_bits):
        raise RefusalError(f"{shown(name)} is {what}", hint=HOSTILE)
    kind = _KINDS.get(kind_bits)
    if kind is None:
        raise RefusalError(f"{shown(name)} is of an unknown kind ({oct(kind_bits)})", hint=REPACK)
    if info.flag_bits & _ENCRYPTED:
        raise RefusalError(f"{shown(name)} is encrypted", hint=REPACK)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusalError(f"{shown(name)} is packed with method {info.compress_type}", hint=REPACK)
    if name.endswith("/"):
        kind = "folder"
    if kind == "folder" and info.file_size:
        raise RefusalError(f"{shown(name)} is a folder, and yet says it has {info.file_size} bytes", hint=HOSTILE)
    return Member(
        name=name,
        kind=kind,
        mode=stat.S_IMODE(mode),
        size_bytes=info.file_size if kind == "file" else 0,
        target=_target(archive, info) if kind == "link" else "",
        content=content if kind == "file" else (),
    )


def _target(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    if info.file_size > MOST_TARGET_BYTES:
        raise RefusalError(f"the link {shown(info.orig_filename)} leads to a name that is too long", hint=HOSTILE)
    return b"".join(_read(archive, info)).decode("utf-8", "surrogateescape")


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Generator[bytes]:
    if info.file_size <= PIECE_BYTES:
        yield from _read(archive, info)
        return
    with ahead(_read(archive, info)) as pieces:
        yield from pieces


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content; the library checks its CRC, and gives no more than the size in the directory."""
    left = info.file_size
    try:
        with archive.open(info) as file:
            while piece := file.read(PIECE_BYTES):
                left -= len(piece)
                yield piece
    except UnicodeDecodeError as err:
        raise RefusalError(f"the name {ascii(err.object)[1:]} is not UTF-8", hint=REPACK) from err
    except _BROKEN as err:
        raise RefusalError(f"{shown(info.orig_filename)} is damaged: {err}", hint=DAMAGED) from err
    if left:
        raise RefusalError(
            f"{shown(info.orig_filename)} lies about its size: {left:,} bytes less than it says", hint=HOSTILE
        )


class _Frugal:
    """A file that is not read in one go: `zipfile` reads a directory of any size whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell
        self.seekable = file.seekable

    def read(self, count: int = -1) -> bytes:
        found = self._file.read(min(count, MOST_DIRECTORY_BYTES + 1) if count >= 0 else MOST_DIRECTORY_BYTES + 1)
        if len(found) > MOST_DIRECTORY_BYTES:
            raise RefusalError(
                f"its list of members is longer than {MOST_DIRECTORY_BYTES:,} bytes: too many members",
                hint="a bundle has a few dozen members: look inside",
            )
        return found
