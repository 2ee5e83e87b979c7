"""Copies ranges of files, and finds the line breaks between them, in bounded blocks."""

import contextlib
import errno
import os

BLOCK_BYTES = 256 * 1024
CUT_MEANWHILE = "Cut by another program while it was read"
NO_COPY = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


def make_like(fd: int, path: str) -> int:
    """A descriptor of a new file with the mode and owner of `fd`."""
    info = os.fstat(fd)
    made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(PermissionError):
        os.fchown(made, info.st_uid, info.st_gid)
    os.fchmod(made, info.st_mode & 0o777)
    return made


def copy(source: int, at: int, target: int, to: int, length: int) -> None:
    """Copy `length` bytes in the kernel where it can, else in blocks."""
    in_kernel = True
    while length:
        if in_kernel:
            try:
                done = os.copy_file_range(source, target, length, at, to)
            except OSError as err:
                if err.errno not in NO_COPY:
                    raise
                in_kernel = False
                continue
        else:
            done = os.pwrite(target, os.pread(source, min(length, BLOCK_BYTES), at), to)
        if not done:
            raise OSError(errno.EAGAIN, CUT_MEANWHILE)
        at, to, length = at + done, to + done, length - done


def after_last_break(fd: int, least: int, limit: int) -> int | None:
    """The offset behind the last line break within [least, limit), or None."""
    while limit > least:
        block = min(BLOCK_BYTES, limit - least)
        limit -= block
        if (found := os.pread(fd, block, limit).rfind(b"\n")) >= 0:
            return limit + found + 1
    return None


def after_next_break(fd: int, least: int, limit: int) -> int:
    """The offset behind the first line break at or behind `least`; `least` if there is none before `limit`."""
    at = least
    while at < limit:
        data = os.pread(fd, min(BLOCK_BYTES, limit - at), at)
        if (found := data.find(b"\n")) >= 0:
            return at + found + 1
        if not data:
            break
        at += len(data)
    return least
