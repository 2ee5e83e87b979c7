"""A program that is run for what it says, bounded in time and output, and that leaves nothing behind."""

import ctypes
import fcntl
import os
import re
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping

from infer_dev.llama_cpp.bundle.ending import held, released

OUTPUT_LIMIT_BYTES = 64 << 10
_UNPRINTABLE = re.compile(r"[^\S\n\t ]|[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_PR_SET_PDEATHSIG = 1


def run(argv: list[str], folder: str, environment: Mapping[str, str], timeout_s: float) -> tuple[int | None, str]:
    """Status (None: ended for taking too long) and output of a command in a session of its own.

    Whatever is raised meanwhile, also by a signal (see `ending`), the command and its process group are ended first.

    Raises:
        OSError: it cannot be started.
    """
    # Not a pipe: what the command leaves behind could hold one open for ever.
    # It lies in memory, so it must not grow: whoever writes more is told that writing fails.
    with open(os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b", buffering=0) as output:
        output.truncate(OUTPUT_LIMIT_BYTES)
        fcntl.fcntl(output, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        with held():
            child = subprocess.Popen(
                argv,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_ends_with_parent(),  # noqa: PLW1509 - none where other threads run
            )
            try:
                with released():
                    has_ended = _wait(child.pid, timeout_s)
            finally:
                # Not reaped yet, so the pid still names our group; what it left in the background ends as well.
                os.killpg(child.pid, signal.SIGKILL)
                status = child.wait()
        output.seek(0)
        said = output.read(OUTPUT_LIMIT_BYTES).rstrip(b"\0").decode(errors="replace")
        return status if has_ended else None, _UNPRINTABLE.sub("?", said)


def _wait(pid: int, timeout_s: float) -> bool:
    """Whether a child ends within the time; it is left to be reaped."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


def _ends_with_parent() -> Callable[[], object] | None:
    """What a child is to call so that it ends even if SIGKILL ends us (prctl(2), PR_SET_PDEATHSIG).

    None where other threads run, as that of a progress bar: after fork(2) nothing may be called then.
    """
    if threading.active_count() > 1:
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def call() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before
            os._exit(1)

    return call
