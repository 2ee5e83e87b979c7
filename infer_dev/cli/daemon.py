"""`infer-dev daemon`: the supervisor in the foreground, for systemd, boot and `up`."""

import contextlib
import faulthandler
import gc
import os
import signal

from infer_dev.settings import BOOT_FD_VAR, READY_FD_VAR, other_user, runtime_dir

FIRST_OTHER_FD = 3


def daemon(*, replace: bool = False) -> int:
    """Run until told to leave; or have the daemon that runs replaced by one of this version, and return."""
    if other_user():
        from infer_dev.cli.account import go_on_as_account  # noqa: PLC0415 - for root only

        go_on_as_account(with_runtime_dir=True)
    if replace:
        from infer_dev.cli.replace import replace_daemon  # noqa: PLC0415 - for this option only

        return replace_daemon()
    ready_fd = _descriptor(os.environ.pop(READY_FD_VAR, ""))
    _close_inherited(ready_fd, _descriptor(os.environ.get(BOOT_FD_VAR, "")))
    faulthandler.enable(all_threads=True)  # SIGABRT, from systemd's watchdog, and crashes: the stacks go to the log
    faulthandler.register(signal.SIGUSR2, all_threads=True)  # boot asks for it when the heartbeat stops
    for number in (signal.SIGPIPE, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir("/")
    gc.disable()  # what is imported stays; to look for garbage in it takes a tenth of the start
    from infer_dev.api.daemon import configure_logging, run_daemon  # noqa: PLC0415 - see above

    gc.freeze()
    gc.enable()
    configure_logging()
    return run_daemon(runtime_dir(), dict(os.environ), ready_fd=ready_fd)


def _descriptor(given: str) -> int | None:
    return int(given) if given.isdecimal() else None


def _close_inherited(*kept: int | None) -> None:
    """Close what the shell that started us had open, or its pipes would stay open for as long as we live."""
    first = FIRST_OTHER_FD
    for fd in sorted(fd for fd in kept if fd is not None and fd >= FIRST_OTHER_FD):
        os.closerange(first, fd)
        with contextlib.suppress(OSError):  # no such descriptor: a user set the variable
            os.set_inheritable(fd, False)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
