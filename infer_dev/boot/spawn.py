"""Starts every process that boot starts: one place, so that they all get the same clean state."""

from __future__ import annotations

import contextlib
import os
import signal

from infer_dev.boot.report import background_fd, write_to_stderr
from infer_dev.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from infer_dev.host.account import Account

STDIN, STDOUT, STDERR = range(3)
EXIT_CANNOT_EXECUTE = 126  # what a shell, env(1) and docker say
EXIT_NOT_FOUND = 127


def spawn(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    own_session: bool = False,
    terminal: bool = False,
    stderr_fd: int | None = None,
    kept_fd: int | None = None,
    account: Account | None = None,
) -> int:
    """Start `argv` with default signal dispositions and no signal blocked, leader of its own process group.

    Args:
        argv: what to run; looked for in `environ`'s PATH.
        environ: its environment.
        own_session: in the background: in a session of its own and with /dev/null as stdin, so that nothing typed on
            the terminal reaches it; its output goes where `report` has that of the background.
        terminal: make it the foreground process group of the terminal that is stdin.
        stderr_fd: its stderr, if not boot's.
        kept_fd: a descriptor it inherits besides those that are inheritable already.
        account: as whom it runs, if not as boot's user.

    Returns:
        Its pid. One that cannot be executed ends with 127 or 126 and says why on its stderr.

    Raises:
        OSError: there is no process or memory to be had.
    """
    # No signal may come between fork and exec: it would be taken by our handlers in the child and be lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(
                *(argv, environ),
                own_session=own_session,
                terminal=terminal,
                stderr_fd=stderr_fd,
                kept_fd=kept_fd,
                account=account,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if not own_session:
        with contextlib.suppress(OSError):  # it has done so itself, and is another program by now
            os.setpgid(pid, pid)  # both sides do it, so that neither has to wait for the other
    return pid


def take_terminal(group: int) -> bool:
    """Make a process group the foreground one of the terminal that is stdin. SIGTTOU must be ignored or blocked."""
    try:
        os.tcsetpgrp(STDIN, group)
    except OSError:
        return False
    return True


def _become(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    own_session: bool,
    terminal: bool,
    stderr_fd: int | None,
    kept_fd: int | None,
    account: Account | None,
) -> NoReturn:
    """In the child: never returns, whatever happens."""
    try:
        if own_session:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), STDIN)
            if background_fd() != STDERR:
                os.dup2(background_fd(), STDOUT)
                os.dup2(background_fd(), STDERR)
        else:
            os.setpgid(0, 0)
        if terminal:
            take_terminal(os.getpid())
        if stderr_fd is not None:
            os.dup2(stderr_fd, STDERR)
        if kept_fd is not None:
            os.set_inheritable(kept_fd, True)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if account is not None:
            account.become()
        os.execvpe(argv[0], list(argv), dict(environ))  # noqa: S606 - no shell is wanted
    except BaseException as err:  # noqa: BLE001 - this process must end here, not go on as a second boot
        status = EXIT_NOT_FOUND if isinstance(err, FileNotFoundError) else EXIT_CANNOT_EXECUTE
        reason = err.strerror if isinstance(err, OSError) else repr(err)
        if isinstance(err, ConfigError):
            reason = f"{err.message}; {err.hint}"
        write_to_stderr(f"infer-dev: cannot run {argv[0]!r}: {reason}\n".encode(errors="backslashreplace"))
        os._exit(status)
