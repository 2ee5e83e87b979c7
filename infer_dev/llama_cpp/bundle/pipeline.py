"""Bytes on their way: read once, hashed and copied as they pass, each step in a thread of its own.

hashlib, igzip, zlib, read(2) and write(2) release the interpreter's lock, so the steps run on several cores.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from infer_dev.llama_cpp.bundle.members import DAMAGED, RefusalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK_BYTES = 1 << 18
CHUNKS_AHEAD = 8
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Intake:
    """One reading of an archive, hashed and copied as it goes.

    Args:
        fd: the archive.
        copy_fd: where each byte also goes; -1: nowhere.

    Attributes:
        total_bytes: the size when reading began.
        read_bytes: how far it has come.
    """

    def __init__(self, fd: int, copy_fd: int) -> None:
        self.fd = fd
        self._copy_fd = copy_fd
        self._before = os.fstat(fd)
        self._digest = hashlib.sha256()
        self.total_bytes = self._before.st_size
        self.read_bytes = 0

    @property
    def sha256(self) -> str:
        """Of what has been read so far."""
        return self._digest.hexdigest()

    @property
    def has_changed(self) -> bool:
        """Whether somebody has written to the archive since reading began."""
        now = os.fstat(self.fd)
        return (now.st_size, now.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns)

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._read():
            self.read_bytes += len(chunk)
            yield chunk
            self._digest.update(chunk)
            if self._copy_fd >= 0:
                write_all(self._copy_fd, chunk, "its copy")
        if self.has_changed or self.read_bytes != self.total_bytes:
            raise changed()
        if self._copy_fd >= 0:
            sync(self._copy_fd, "its copy")

    def _read(self) -> bytes:
        try:
            return os.read(self.fd, CHUNK_BYTES)
        except OSError as err:
            raise RefusalError(f"reading fails: {err.strerror}", hint="look at the disk it lies on") from err


@contextlib.contextmanager
def ahead(pieces: Iterable[bytes], *, depth: int = CHUNKS_AHEAD) -> Iterator[Iterator[bytes]]:
    """Run an iterable in a thread of its own, up to `depth` pieces ahead of whoever takes them.

    What it raises is raised where the pieces are taken. Leaving the context ends the thread.
    """
    channel = _Channel(depth)

    def work() -> None:
        error: BaseException | None = None
        try:
            for piece in pieces:
                if not channel.put(piece):
                    return
        except BaseException as err:  # noqa: BLE001 - raised again by whoever takes the pieces
            error = err
        channel.finish(error)

    thread = threading.Thread(target=work, name="bundle")
    thread.start()
    try:
        yield channel.take()
    finally:
        channel.abandon()
        thread.join()


def write_all(fd: int, data: bytes | memoryview, what: str) -> None:
    """Write everything.

    Raises:
        RefusalError: it cannot be written; says `what`, and whether the disk is full.
    """
    with writing(what):
        done = os.write(fd, data)
        while done < len(data):
            done += os.write(fd, memoryview(data)[done:])


def sync(fd: int, what: str) -> None:
    """Wait until a file is on its disk, which is where some file systems notice that they are full."""
    with writing(what):
        os.fsync(fd)


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Tell failures to write `what` as refusals."""
    try:
        yield
    except OSError as err:
        reason = "the disk is full" if err.errno in _FULL else err.strerror
        hint = "free some space, or install elsewhere" if err.errno in _FULL else "look at the folder it is for"
        raise RefusalError(f"{what} cannot be written: {reason}", hint=hint) from err


def changed() -> RefusalError:
    return RefusalError("it changed while it was read", hint="wait until it has been copied in full, then try again")


def truncated(what: str) -> RefusalError:
    return RefusalError(f"it ends in the middle of {what}", hint=DAMAGED)


class _Channel:
    """A queue that holds a few pieces; the taker may leave, the giver may fail."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._pieces: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._abandoned = False
        self._error: BaseException | None = None

    def put(self, piece: bytes) -> bool:
        """False if nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._pieces) < self._depth or self._abandoned)
            self._pieces.append(piece)
            self._changed.notify_all()
            return not self._abandoned

    def finish(self, error: BaseException | None) -> None:
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> None:
        with self._changed:
            self._abandoned = True
            self._pieces.clear()
            self._changed.notify_all()

    def take(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self._finished or self._abandoned)
                if not self._pieces:
                    if self._error:
                        raise self._error
                    return
                piece = self._pieces.popleft()
                self._changed.notify_all()
            yield piece
