"""Unpacks an archive of any kind in one pass: read, hashed, copied and unpacked at the same time."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle import tar, zip  # noqa: A004 - the format
from infer_dev.llama_cpp.bundle.formats import HEAD_BYTES, PIECES_AHEAD, Format, decompressed, not_an_archive, sniff
from infer_dev.llama_cpp.bundle.members import DAMAGED, REPACK, RefusalError
from infer_dev.llama_cpp.bundle.pipeline import Intake, ahead, changed
from infer_dev.llama_cpp.bundle.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from infer_dev.llama_cpp.bundle.members import Member

    Progress = Callable[[int, int], None]

RESERVE_BYTES = 64 << 20
RESERVE_PART = 20
"""Of a small disk only its twentieth part is kept free."""
HEADERS_BYTES = 64 << 20
"""What headers and padding may add to the limit; thousands of long names stay far below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        unpacked_bytes: all files together; None: what is free on the disk, less a reserve.
        members: how many entries it may have.
    """

    unpacked_bytes: int | None = None
    members: int = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What was unpacked.

    Attributes:
        sha256: of the archive, in hexadecimal.
        archive_bytes: its size.
        unpacked_bytes: all files together.
        members: how many entries it has.
        warnings: what was changed on the way in, for people.
    """

    sha256: str
    archive_bytes: int
    unpacked_bytes: int
    members: int
    warnings: tuple[str, ...]


DEFAULT_LIMITS = Limits()


def unpack(
    source: str,
    into: str,
    *,
    copy_to: str | None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> Unpacked:
    """Unpack an archive into an empty folder, and copy and hash it on the way.

    The format is told by the first bytes. Names stay as they are in the archive. Files get the mode 0755 or 0644, by
    whether anybody may execute them, and the caller's user.

    Args:
        source: the archive.
        into: an existing empty folder. After an error it holds what was unpacked until then.
        copy_to: where a copy is made, which must not exist yet; it is on the disk when this returns, and gone after
            an error. None: no copy.
        limits: what it may unpack to.
        progress: called with bytes read and bytes in all, from the caller's thread, several times a second.

    Raises:
        BundleError: it is not an archive, is damaged, still being written, too large, or holds anything that a bundle
            has no use for; or the disk is full.
    """
    with contextlib.ExitStack() as stack:
        try:
            fd = stack.enter_context(_opened(source))
            copy_fd = stack.enter_context(_created(copy_to)) if copy_to else -1
            intake = Intake(fd, copy_fd)
            try:
                tree = _unpack(intake, fd if copy_fd < 0 else copy_fd, into, limits, progress)
            except RefusalError as err:
                # What looks damaged may just not be there yet.
                raise (changed() if intake.has_changed else err) from err
        except RefusalError as err:
            raise BundleError(f"cannot unpack {source}: {err.reason}", hint=err.hint) from err
    return Unpacked(
        sha256=intake.sha256,
        archive_bytes=intake.total_bytes,
        unpacked_bytes=tree.unpacked_bytes,
        members=tree.members,
        warnings=tree.warnings,
    )


def _unpack(intake: Intake, fd: int, into: str, limits: Limits, progress: Progress | None) -> Tree:
    head = os.pread(intake.fd, HEAD_BYTES, 0)
    if not head:
        raise RefusalError("it is empty", hint=DAMAGED)
    kind = sniff(head)
    if kind is None:
        raise not_an_archive(head)
    most_bytes, why_most = _limit(intake, fd, into, limits)
    with Tree(into, most_bytes=most_bytes, most_members=limits.members, why_most=why_most) as tree:
        members = (
            _zip_members(intake, fd, limits, progress)
            if kind is Format.ZIP
            else _tar_members(intake, kind, most_bytes, progress)
        )
        with contextlib.closing(members):
            for member in members:
                tree.add(member)
        tree.finish()
    if intake.has_changed:
        raise changed()
    return tree


def _tar_members(intake: Intake, kind: Format, most_bytes: int, progress: Progress | None) -> Generator[Member]:
    with ahead(intake) as chunks:
        if kind is Format.TAR:
            yield from tar.members(_watched(chunks, intake, kind, most_bytes, progress))
        else:
            with ahead(decompressed(chunks, kind), depth=PIECES_AHEAD) as pieces:
                yield from tar.members(_watched(pieces, intake, kind, most_bytes, progress))
    _tell(progress, intake)


def _watched(
    pieces: Iterator[bytes], intake: Intake, kind: Format, most_bytes: int, progress: Progress | None
) -> Iterator[bytes]:
    """The pieces of a tar as they pass, once it is sure to be one."""
    head, seen = b"", 0
    for piece in pieces:
        _tell(progress, intake)
        seen += len(piece)
        if seen > most_bytes + HEADERS_BYTES:
            raise RefusalError(f"it unpacks to more than {most_bytes:,} bytes", hint="do not trust it")
        if len(head) < HEAD_BYTES:
            head += piece[:HEAD_BYTES]
            if len(head) >= HEAD_BYTES:
                _refuse_other_than_tar(head, kind)
        yield piece
    if len(head) < HEAD_BYTES:
        _refuse_other_than_tar(head, kind)


def _refuse_other_than_tar(head: bytes, kind: Format) -> None:
    inner = sniff(head[:HEAD_BYTES])
    if inner is not Format.TAR:
        what = "nothing" if not head else f"another archive ({inner.value})" if inner else "something else"
        raise RefusalError(f"there is no tar in its {kind.value} data, but {what}", hint=REPACK)


def _zip_members(intake: Intake, fd: int, limits: Limits, progress: Progress | None) -> Generator[Member]:
    with ahead(intake) as chunks:
        for _ in chunks:
            _tell(progress, intake)
    _tell(progress, intake)
    yield from zip.members(fd, most_members=limits.members)


def _tell(progress: Progress | None, intake: Intake) -> None:
    if progress:
        progress(intake.read_bytes, intake.total_bytes)


def _limit(intake: Intake, fd: int, into: str, limits: Limits) -> tuple[int, str]:
    """How many bytes may be unpacked, and where the number comes from."""
    if limits.unpacked_bytes is not None:
        return limits.unpacked_bytes, "that are allowed"
    disk = os.statvfs(into)
    free = disk.f_bavail * disk.f_frsize
    free -= min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // RESERVE_PART)
    if fd != intake.fd and os.fstat(fd).st_dev == os.stat(into).st_dev:
        free -= intake.total_bytes
    return max(0, free), f"that the disk of {into} has room for"


@contextlib.contextmanager
def _opened(source: str) -> Iterator[int]:
    try:
        # Not to wait for the other end of a FIFO.
        fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise RefusalError(f"{err.strerror}", hint="name the archive, or set its variable to it") from err
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise RefusalError("it is not a regular file", hint="name an archive")
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _created(path: str) -> Iterator[int]:
    """A new file; gone again if what happens meanwhile fails."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as err:
        raise RefusalError(f"its copy {path} cannot be made: {err.strerror}", hint="look at that folder") from err
    try:
        yield fd
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
