"""Holes in files: parts of a file that keep their place but take no room. See fallocate(2), statx(2)."""

import ctypes
import os
from functools import cache

KEEP_SIZE = 0x01
PUNCH_HOLE = 0x02
FAR_BYTES = 1 << 40  # behind the end of any log, and below the largest offset of every file system
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_BTIME_AT = 80  # struct statx: stx_btime.tv_sec


def punch(fd: int, start: int, length: int) -> None:
    """Give the room of `length` bytes from `start` on back to the file system; they read as zeros from then on.

    The file's size stays, so a process that appends to it notices nothing.

    Raises:
        OSError: EOPNOTSUPP where the file system cannot do it.
    """
    while True:
        if _fallocate()(fd, PUNCH_HOLE | KEEP_SIZE, start, length) == 0:
            return
        number = ctypes.get_errno()
        try:
            raise OSError(number, os.strerror(number))
        except InterruptedError:
            continue


def try_punch(fd: int) -> None:
    """Raise what `punch` would raise for this file; changes nothing."""
    punch(fd, os.fstat(fd).st_size + FAR_BYTES, 4096)


def end_of_first(fd: int) -> int:
    """Where the text behind the hole begins with which a file begins; 0 if it begins with none.

    A hole takes whole blocks, so zeros that follow it are taken for a part of it.
    """
    try:
        at = os.lseek(fd, 0, os.SEEK_DATA)
    except OSError:
        return os.fstat(fd).st_size  # ENXIO: nothing but a hole
    if not at:
        return 0
    while data := os.pread(fd, 64 * 1024, at):
        if rest := data.lstrip(b"\0"):
            return at + len(data) - len(rest)
        at += len(data)
    return at


def birth_time(fd: int) -> float | None:
    """When the file was made, in seconds of the wall clock; None where the file system does not tell."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    try:
        status = ctypes.CDLL(None, use_errno=True).statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer)
    except AttributeError:
        return None  # a C library older than the call
    known = status == 0 and int.from_bytes(buffer.raw[:4], "little") & _STATX_BTIME
    seconds = int.from_bytes(buffer.raw[_BTIME_AT : _BTIME_AT + 8], "little", signed=True)
    return float(seconds) if known else None


@cache
def _fallocate() -> "ctypes._NamedFuncPointer":
    libc = ctypes.CDLL(None, use_errno=True)
    # glibc has both names on 64 bits; on 32 bits only this one takes offsets beyond 2 GiB. musl has one name.
    call = getattr(libc, "fallocate64", None) or libc.fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    call.restype = ctypes.c_int
    return call
