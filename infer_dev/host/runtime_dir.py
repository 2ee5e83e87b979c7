"""The runtime directory: made safely, locked by one daemon at a time."""

import contextlib
import fcntl
import os
import stat

from infer_dev.errors import UnavailableError
from infer_dev.settings import LOCK_NAME, RUNTIME_DIR_VAR

_HINT = f"set {RUNTIME_DIR_VAR} to a folder of your own"


def make_runtime_dir(path: str) -> None:
    """Make `path` with mode 0700, or accept it if it is ours and nobody else can write it.

    Raises:
        UnavailableError: it cannot be made, or belongs to somebody else (in /tmp anybody could have made it).
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except OSError as err:
        raise UnavailableError(f"cannot make the runtime directory {path}: {err.strerror}", hint=_HINT) from err
    if not stat.S_ISDIR(found.st_mode):
        raise UnavailableError(f"cannot use the runtime directory {path}: it is no folder", hint=_HINT)
    if not os.access(path, os.W_OK | os.X_OK):
        raise UnavailableError(f"cannot use the runtime directory {path}: this user cannot write it", hint=_HINT)
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o022:
        raise UnavailableError(
            f"cannot use the runtime directory {path}: others can write it (owner {found.st_uid}, "
            f"mode {stat.S_IMODE(found.st_mode):o})",
            hint=_HINT,
        )


class Lock:
    """The lock that makes a daemon the only one of its runtime directory. Holds its pid for people to read."""

    def __init__(self, runtime: str) -> None:
        self._path = os.path.join(runtime, LOCK_NAME)
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False if a living daemon has it."""
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            # The file may have been unlinked by a leaving daemon between our open and our lock.
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._path).st_ino == os.fstat(fd).st_ino:
                    break
            os.close(fd)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd
        return True

    def release(self) -> None:
        """Remove the lock file, then let go of it: who waits for it sees a new file or none."""
        if self._fd is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._path).st_ino == os.fstat(self._fd).st_ino:  # else another daemon's, made since
                    os.unlink(self._path)
            os.close(self._fd)
            self._fd = None
