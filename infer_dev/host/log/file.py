"""An instance's log, opened for its process to write. `read` reads it, `rotation` keeps it small."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Sequence

from infer_dev.host.log.read import tail

__all__ = ["end_offset", "obstacle", "open_log", "tail", "write_start_line"]

LOG_MODE = 0o640
# O_NONBLOCK: opening a pipe that nobody reads would block.
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
LOCK_TRIES = 200
LOCK_RETRY_S = 0.001
START_MARK = "==== "


def open_log(path: str) -> int:
    """A descriptor that appends to `path`; folders that are missing are made.

    It carries a shared lock, which every process that inherits it holds on to: as long as one does, rotation knows
    that the log is written.

    Raises:
        OSError: the folder or the file cannot be written, or what is there is no file.
    """
    while True:
        try:
            fd = os.open(path, FLAGS, LOG_MODE)
        except (FileNotFoundError, NotADirectoryError):
            os.makedirs(os.path.dirname(path), exist_ok=True)  # or it tells which part of the path is no folder
            fd = os.open(path, FLAGS, LOG_MODE)
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
            os.close(fd)
            raise OSError(errno.EINVAL, "Not a file", path)
        os.set_blocking(fd, True)
        if stat.S_ISCHR(mode) or _lock(fd, path):
            return fd
        os.close(fd)  # a rotation renamed it in between; what is there now is the log


def _lock(fd: int, path: str) -> bool:
    """Lock the log as written; False if another file stands at `path` by then.

    A rotation holds the lock for a rename only. A log that others lock, or whose file system has no locks, is used
    without.
    """
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_RETRY_S)
        except OSError:
            break
        else:
            break
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def write_start_line(fd: int, version: str, argv: Sequence[str]) -> None:
    """One line that tells where a new life of the instance begins. `argv` must hold no secrets.

    It begins on a line of its own, also where the last process left one unfinished.

    A disk that is full does not keep a server from starting: the line is then missing, nothing else.
    """
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    command = " ".join(repr(arg) if set(arg) & set(" \t\n\"'$\\") or not arg else arg for arg in argv)
    line = f"{START_MARK}{when} infer-dev {version} starts: {command}\n".encode(errors="replace")
    try:
        os.write(fd, b"\n" + line if _ends_within_a_line(fd) else line)
    except OSError:
        return


def _ends_within_a_line(fd: int) -> bool:
    """Whether the last byte is no line break. `fd` itself may be for writing only."""
    size = os.fstat(fd).st_size
    if not size:
        return False
    try:
        reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.pread(reading, 1, size - 1) != b"\n"
    finally:
        os.close(reading)


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
