"""What an ELF file says about itself: the machine it is for, the libraries it needs. Read, never run.

The format is the System V ABI's (`man 5 elf`); only the little-endian 64-bit class is read, which is all that
llama.cpp's CUDA builds come in.
"""

import os
import stat
import struct
from dataclasses import dataclass
from typing import BinaryIO

MAGIC = b"\x7fELF\x02\x01"
MACHINES = {62: "x86_64", 183: "aarch64"}

_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_LOAD, _DYNAMIC_SEGMENT = 1, 2
_NULL, _NEEDED, _STRINGS, _STRINGS_SIZE, _RPATH, _RUNPATH = 0, 1, 5, 10, 15, 29
# No library of any use has more; a broken file must not cost memory.
_MOST_SEGMENTS = 256
_MOST_BYTES = 1 << 20
_MOST_NEEDED = 1024
_MOST_NAME_BYTES = 256
_MOST_PATH_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Elf:
    """One ELF file.

    Attributes:
        machine: as `uname -m` names it, or the number of an unknown one.
        needed: the names of the libraries it is linked with (DT_NEEDED), in the file's order.
        search: the folders where it has them looked for (DT_RUNPATH, DT_RPATH), `$ORIGIN` as written.
    """

    machine: str
    needed: tuple[str, ...]
    search: tuple[str, ...] = ()


def read_elf(path: str) -> Elf | None:
    """What `path` says, or None if it is no readable ELF file of the common class."""
    try:
        # Not to wait for the other end of a FIFO.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            return _read(file) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    except (OSError, ValueError, struct.error):
        return None


def _read(file: BinaryIO) -> Elf | None:
    head = file.read(_HEADER.size)
    if not head.startswith(MAGIC):
        return None
    _, machine, _, _, offset, _, _, _, size, count, *_ = _HEADER.unpack(head)
    segments = []
    for index in range(min(count, _MOST_SEGMENTS)):
        raw = _at(file, offset + index * size, _SEGMENT.size)
        kind, _, start, address, _, length, _, _ = _SEGMENT.unpack(raw)
        segments.append((kind, start, address, length))
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    for kind, start, _, length in segments:
        if kind == _DYNAMIC_SEGMENT:
            needed, search = _linked(file, segments, _at(file, start, length))
            break
    return Elf(machine=MACHINES.get(machine, f"machine {machine}"), needed=needed, search=search)


def _linked(
    file: BinaryIO, segments: list[tuple[int, int, int, int]], table: bytes
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The libraries, and the folders where they are looked for."""
    offsets: list[int] = []
    paths: list[int] = []
    strings = size = 0
    for tag, value in _DYNAMIC.iter_unpack(table[: len(table) // _DYNAMIC.size * _DYNAMIC.size]):
        if tag == _NULL:
            break
        if tag == _NEEDED:
            offsets.append(value)
            if len(offsets) > _MOST_NEEDED:
                raise ValueError(tag)
        elif tag in (_RPATH, _RUNPATH):
            paths = [*paths[-1:], value]  # there is one of each at most
        elif tag == _STRINGS:
            strings = value
        elif tag == _STRINGS_SIZE:
            size = value
    # The table holds the strings' address; the segment that is loaded there has their place in the file.
    for kind, start, address, length in segments:
        if kind == _LOAD and address <= strings < address + length:
            table_at = start + strings - address
            needed = tuple(_name(file, table_at + at) for at in offsets if at < size)
            folders = [_name(file, table_at + at, _MOST_PATH_BYTES) for at in paths if at < size]
            return needed, tuple(folder for folder in ":".join(folders).split(":") if folder)
    return (), ()


def _name(file: BinaryIO, offset: int, most_bytes: int = _MOST_NAME_BYTES) -> str:
    text = _at(file, offset, most_bytes)
    return text[: text.index(b"\0")].decode(errors="replace")


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    if size > _MOST_BYTES:
        raise ValueError(size)
    file.seek(offset, os.SEEK_SET)
    return file.read(size)
