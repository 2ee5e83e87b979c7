"""An instance's log: opened for its process to write, read from its end."""

import asyncio
import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Sequence

BLOCK_BYTES = 64 * 1024
FOLLOW_POLL_S = 0.2
MAX_LINE_BYTES = 16 * 1024
LOG_MODE = 0o640
START_MARK = "==== "


def open_log(path: str) -> int:
    """A descriptor that appends to `path`; folders that are missing are made.

    Raises:
        OSError: the folder or the file cannot be written, or what is there is no file.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
    fd = os.open(path, flags | os.O_NONBLOCK, LOG_MODE)  # opening a pipe that nobody reads would block
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        os.close(fd)
        raise OSError(errno.EINVAL, "Not a file", path)
    os.set_blocking(fd, True)
    return fd


def write_start_line(fd: int, version: str, argv: Sequence[str]) -> None:
    """One line that tells where a new life of the instance begins. `argv` must hold no secrets.

    A disk that is full does not keep a server from starting: the line is then missing, nothing else.
    """
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    command = " ".join(repr(arg) if set(arg) & set(" \t\n\"'$\\") or not arg else arg for arg in argv)
    line = f"{START_MARK}{when} infer-dev {version} starts: {command}\n".encode(errors="replace")
    try:
        os.write(fd, line)
    except OSError:
        return


def obstacle(path: str) -> str:
    """Why a log at `path` cannot be written, or "". Tries it: to root, access(2) says yes to anything."""
    try:
        os.close(open_log(path))
    except OSError as err:
        where = f" ({err.filename})" if err.filename not in (None, path) else ""
        return f"{err.strerror}{where}"
    return ""


def end_offset(path: str) -> int:
    """The size of the log in bytes, 0 if there is none: where a new life will begin to write."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def tail(path: str, lines: int, *, since: int = 0) -> tuple[list[str], int]:
    """The last `lines` lines of a file, read from its end in blocks.

    Args:
        path: the log; one that is missing or unreadable has no lines.
        lines: how many at most.
        since: byte offset before which nothing is read.

    Returns:
        The lines (each at most MAX_LINE_BYTES, undecodable bytes replaced) and the offset behind the last one.
    """
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            start, data = end, b""
            floor = min(since, end)
            while start > floor and data.count(b"\n") <= lines and len(data) < (lines + 1) * MAX_LINE_BYTES:
                block = min(BLOCK_BYTES, start - floor)
                start = file.seek(start - block)
                data = file.read(block) + data
    except OSError:
        return [], 0
    parts = data.split(b"\n")
    if parts and not parts[-1]:
        parts.pop()
    return [part[-MAX_LINE_BYTES:].decode(errors="replace") for part in parts[-lines:]] if lines else [], end


def offset_of_tail(path: str, lines: int) -> int:
    """The byte offset where the last `lines` lines begin; 0 if there are fewer."""
    found = 0
    try:
        with open(path, "rb") as file:
            start = end = file.seek(0, os.SEEK_END)
            while start > 0:
                block = min(BLOCK_BYTES, start)
                start = file.seek(start - block)
                data = file.read(block)
                at = len(data)
                while (at := data.rfind(b"\n", 0, at)) >= 0:
                    if start + at + 1 == end:
                        continue  # the line break that ends the last line begins none
                    found += 1
                    if found == lines:
                        return start + at + 1
    except OSError:
        return 0
    return 0 if lines else end


async def read_on(path: str, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
    """The log's bytes from `offset` on, in blocks; with `follow` also those still to come, and b"" in quiet times.

    A log that is truncated or replaced from outside is read from its new beginning.
    """
    file = None
    try:
        while True:
            if file is None:
                try:
                    file = open(path, "rb")  # noqa: ASYNC230, SIM115 - a local file; closed below
                except OSError:
                    if not follow:
                        return
                    yield b""
                    await asyncio.sleep(FOLLOW_POLL_S)
                    continue
            file.seek(offset)
            if data := file.read(BLOCK_BYTES):
                offset += len(data)
                yield data
                continue
            if not follow:
                return
            yield b""
            await asyncio.sleep(FOLLOW_POLL_S)
            size = os.fstat(file.fileno()).st_size
            if size < offset:
                offset = 0
            elif size == offset and _is_replaced(path, file.fileno()):
                file.close()
                file, offset = None, 0
    finally:
        if file is not None:
            file.close()


def _is_replaced(path: str, fd: int) -> bool:
    """Whether another file stands at `path` than the one open as `fd`."""
    try:
        there, ours = os.stat(path), os.fstat(fd)
    except OSError:
        return False  # moved away, nothing new in its place yet
    return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)
