"""`infer-dev daemon`: the supervisor in the foreground, for systemd, boot and `up`."""

import gc
import os
import signal

from infer_dev.settings import READY_FD_VAR, runtime_dir

FIRST_OTHER_FD = 3


def daemon(*, replace: bool = False) -> int:
    """Run until told to leave; or have the daemon that runs replaced by one of this version, and return."""
    if replace:
        from infer_dev.cli.replace import replace_daemon  # noqa: PLC0415 - for this option only

        return replace_daemon()
    given = os.environ.pop(READY_FD_VAR, "")
    ready_fd = int(given) if given.isdigit() else None
    _close_inherited(ready_fd)
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


def _close_inherited(kept: int | None) -> None:
    """Close what the shell that started us had open, or its pipes would stay open for as long as we live."""
    limit = os.sysconf("SC_OPEN_MAX")
    if kept is None:
        os.closerange(FIRST_OTHER_FD, limit)
    else:
        os.set_inheritable(kept, False)
        os.closerange(FIRST_OTHER_FD, kept)
        os.closerange(kept + 1, limit)
