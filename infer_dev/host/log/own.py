"""The log that this process writes by its stdout and stderr, kept small, and made again when it is deleted.

Not by `rotation`, which is for writers that cannot be told: this one can give its log another name and go on in a new
file. So there are no holes in it, and a crash at any time, its traceback included, is in the newest file.
"""

import os
import stat

STDOUT, STDERR = 1, 2
MODE = 0o600
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_BYTES = 4 * 1024 * 1024
KEPT_PARTS = 2


class OwnLog:
    """The file at `path`, if that is where this process writes. Otherwise nothing is done: the file is another's."""

    def __init__(self, path: str, *, most_bytes: int = MOST_BYTES) -> None:
        """`most_bytes`: a log that has grown to more becomes `PATH.1`, that one `PATH.2`; KEPT_PARTS of them stay."""
        self._path = path
        self._most_bytes = most_bytes
        self._is_ours = is_stderr(path)

    def look(self) -> None:
        """See to it; costs one stat. Called about once a second.

        Raises:
            OSError: it cannot be; this process writes on where it did.
        """
        if not self._is_ours:
            return
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            self._write_to(self._path)
            return
        if not os.path.samestat(found, os.fstat(STDERR)):
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():  # somebody else rotates it
                self._write_to(self._path)
        elif found.st_size > self._most_bytes:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Put a new file in the log's place. It is made before the old one goes: a full disk changes nothing."""
        heir = f"{self._path}.new"
        os.close(os.open(heir, FLAGS | os.O_TRUNC, MODE))
        for number in reversed(range(1, KEPT_PARTS)):
            _rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.rename(self._path, f"{self._path}.1")
        os.rename(heir, self._path)
        self._write_to(self._path)

    def _write_to(self, path: str) -> None:
        fd = os.open(path, FLAGS, MODE)
        try:
            if os.path.samestat(os.fstat(STDOUT), os.fstat(STDERR)):
                os.dup2(fd, STDOUT)
            os.dup2(fd, STDERR)
        finally:
            os.close(fd)


def is_stderr(path: str) -> bool:
    """Whether the file at `path` is this process's stderr. A link to it is not."""
    try:
        found, ours = os.lstat(path), os.fstat(STDERR)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and os.path.samestat(found, ours)


def _rename(old: str, new: str) -> None:
    try:
        os.rename(old, new)
    except FileNotFoundError:
        return
