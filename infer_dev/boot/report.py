"""What boot says, on stderr, in the form of the daemon's log beside which it stands.

Who works at a terminal there wants to read of trouble only: the rest then goes to a file (`spare_the_terminal`), and
so does what runs in the background.
"""

import contextlib
import os
import signal
import time

STDERR = 2
MODE = 0o644
_log_fd: int | None = None  # the file's, once the terminal is spared


def spare_the_terminal(path: str) -> None:
    """From now on only warnings come to stderr; they, and all else, go to a file made anew. It stays if it cannot be.

    Nothing at `path` is followed: the folder may be another user's.
    """
    global _log_fd  # noqa: PLW0603 - as stderr, it is the process's
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        _log_fd = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE
        )
        folder = os.stat(os.path.dirname(path))
        os.fchown(_log_fd, folder.st_uid, folder.st_gid)  # it is the daemon that keeps it small


def background_fd() -> int:
    """Where the output of processes in the background belongs."""
    return STDERR if _log_fd is None else _log_fd


def info(text: str) -> None:
    """Tell what happened."""
    write(_line("INFO", text))


def warn(text: str) -> None:
    """Tell what should not have happened."""
    line = _line("WARNING", text)
    write(line)
    if _log_fd is not None:
        write_to_stderr(line)


def ended(code: int) -> str:
    """How a process ended, for people. `code` as `subprocess` has it."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def write(data: bytes) -> None:
    """Write what comes from the background; a stderr that is full or gone must not end boot."""
    with contextlib.suppress(OSError):
        os.write(background_fd(), data)


def write_to_stderr(data: bytes) -> None:
    """Write, also if the terminal is spared."""
    with contextlib.suppress(OSError):
        os.write(STDERR, data)


def _line(level: str, text: str) -> bytes:
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    return f"{stamp},{int(now % 1 * 1000):03} {level} boot: {text}\n".encode(errors="backslashreplace")
