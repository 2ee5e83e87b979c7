"""The runtime directory, locked by one daemon at a time; `folder` makes it."""

import contextlib
import errno
import fcntl
import os
import socket
import time
from hashlib import sha256

from infer_dev.host.process.stat import users_of
from infer_dev.host.runtime.folder import make_runtime_dir
from infer_dev.host.sockets import End, holds
from infer_dev.settings import LOCK_NAME

PATIENCE_S = 1.0
RETRY_S = 0.01
_INODE, _PATH = 6, slice(7, None)  # columns of /proc/net/unix


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
        old = self._fd
        if not self._lock_file():
            return False
        os.close(old)  # not before: where no new one can be made, the next look tries again
        return True

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
        wanted = abstract_name(self._runtime)
        name = _bound(wanted)
        if name is None and _is_held_by_this_user(wanted):
            return False
        name = name or _bound(wanted)  # who held it may have ended meanwhile
        if not self._lock_file():
            if name is not None:
                name.close()
            return False
        if name is None:
            _tell_of_squatter(self._runtime)
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


def abstract_name(runtime: str) -> bytes:
    """A name that is another for another folder, and for another container that shares our network."""
    parts = [os.path.realpath(runtime)]
    for kind in ("pid", "mnt"):
        with contextlib.suppress(OSError):
            parts.append(os.readlink(f"/proc/self/ns/{kind}"))
    return b"\0infer-dev-" + sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:32].encode()


def _bound(name: bytes) -> socket.socket | None:
    """A socket with this name, or None if another has it."""
    found = socket.socket(socket.AF_UNIX)
    try:
        found.bind(name)
    except OSError as err:
        found.close()
        if err.errno != errno.EADDRINUSE:
            raise
        return None
    return found


def _is_held_by_this_user(name: bytes) -> bool:
    """Whether a process of this user has the socket of this name; true as well where it cannot be told.

    Anybody may take any abstract name, and thereby must not keep our daemon from its own folder.
    """
    try:
        with open("/proc/net/unix", "rb") as file:
            rows = [line.split() for line in file]
    except OSError:
        return True
    shown = b"@" + name[1:]
    ends = [End(inode=int(row[_INODE])) for row in rows if row[_PATH] == [shown]]
    own = os.getuid()
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    # The real user counts: a setuid program is its caller's.
    return any(own in users_of(pid)[:1] and any(holds(pid, end) for end in ends) for pid in pids)


def _tell_of_squatter(runtime: str) -> None:
    import logging  # noqa: PLC0415 - the daemon alone comes here

    logging.getLogger(__name__).warning(
        "another user holds the abstract socket name of %s: the lock file alone keeps a second daemon away", runtime
    )


def _inode_at(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
