"""The runtime directory: made safely, locked by one daemon at a time."""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from hashlib import sha256

from infer_dev.errors import UnavailableError
from infer_dev.settings import LOCK_NAME, RUNTIME_DIR_VAR

PATIENCE_S = 1.0
RETRY_S = 0.01
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
    """The lock that makes a daemon the only one of its runtime directory. Its file holds the pid, for people to read.

    It is a flock on a file, and an abstract socket's name (unix(7)) besides: that holds even if somebody removes the
    folder. A child shares both until its execve(2), by when it can be found by its mark: so no second daemon comes
    into being between the fork of a child and that.
    """

    def __init__(self, runtime: str) -> None:
        self._runtime = runtime
        self._path = os.path.join(runtime, LOCK_NAME)
        self._fd: int | None = None
        self._name: socket.socket | None = None

    def acquire(self, *, patience_s: float = PATIENCE_S) -> bool:
        """Take the lock; False if a living daemon has it.

        Args:
            patience_s: how long to wait for one whose daemon is dead: a child of it may not have begun to be itself.
        """
        end = time.monotonic() + patience_s
        while not self._try():
            if self._holder_lives() or time.monotonic() > end:
                return False
            time.sleep(RETRY_S)
        return True

    def heal(self) -> bool:
        """Make the file again if it is gone, with its folder; returns whether it was.

        Raises:
            OSError, UnavailableError: it cannot be made.
        """
        if self._fd is None or _inode_at(self._path) == os.fstat(self._fd).st_ino:
            return False
        make_runtime_dir(self._runtime)
        old, self._fd = self._fd, None
        os.close(old)
        return self._lock_file()

    def release(self) -> None:
        """Remove the lock file, then let go of it: who waits for it sees a new file or none."""
        if self._fd is not None:
            with contextlib.suppress(FileNotFoundError):
                if _inode_at(self._path) == os.fstat(self._fd).st_ino:  # else another daemon's, made since
                    os.unlink(self._path)
            os.close(self._fd)
            self._fd = None
        if self._name is not None:
            self._name.close()
            self._name = None

    def _try(self) -> bool:
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(_abstract_name(self._runtime))
        except OSError as err:
            name.close()
            if err.errno != errno.EADDRINUSE:
                raise
            return False
        if not self._lock_file():
            name.close()
            return False
        self._name = name
        return True

    def _lock_file(self) -> bool:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            # The file may have been unlinked by a leaving daemon between our open and our lock.
            if _inode_at(self._path) == os.fstat(fd).st_ino:
                break
            os.close(fd)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd
        return True

    def _holder_lives(self) -> bool:
        """Whether the daemon whose pid stands in the file runs; one that is only starting has not written it yet."""
        try:
            with open(self._path, encoding="ascii") as file:
                os.kill(int(file.read()), 0)
        except (OSError, ValueError) as err:
            return isinstance(err, PermissionError)
        return True


def _abstract_name(runtime: str) -> bytes:
    """A name that is another for another folder, and for another container that shares our network."""
    parts = [os.path.realpath(runtime)]
    for kind in ("pid", "mnt"):
        with contextlib.suppress(OSError):
            parts.append(os.readlink(f"/proc/self/ns/{kind}"))
    return b"\0infer-dev-" + sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:32].encode()


def _inode_at(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
