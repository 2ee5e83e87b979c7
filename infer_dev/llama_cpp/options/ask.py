"""Runs a program that prints something and ends, and lets nothing come of it but what it prints."""

import atexit
import contextlib
import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

OUTPUT_LIMIT_BYTES = 1 << 20
_under_way = set[int]()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program printed.

    Attributes:
        status: exit status, -N for a signal; None: it was ended for taking too long.
        output: its standard output, at most `OUTPUT_LIMIT_BYTES`.
        errors: its standard error, likewise.
    """

    status: int | None
    output: str
    errors: str


def ask(argv: Sequence[str], env: Mapping[str, str], deadline_s: float) -> Answer:
    """Run `argv` in a session of its own, without input, and end it with all it started.

    Raises:
        OSError: it cannot be started.
    """
    with ExitStack() as stack:
        # Not pipes: what the program leaves behind could hold them open for ever. They lie in memory, so they must
        # not grow: whoever writes more is told that writing fails.
        output, errors = (stack.enter_context(_room()) for _ in range(2))
        child = subprocess.Popen(
            argv,
            cwd="/",
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        _under_way.add(child.pid)
        try:
            has_ended = _wait(child.pid, deadline_s)
        finally:
            # Not reaped yet, so the pid still names our group.
            os.killpg(child.pid, signal.SIGKILL)
            _under_way.discard(child.pid)
            status = child.wait()
        return Answer(status if has_ended else None, _text(output), _text(errors))


@atexit.register
def _end_all() -> None:
    """End what a thread that nobody waits for still asks."""
    for pid in tuple(_under_way):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _room() -> BinaryIO:
    room = open(os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b", buffering=0)  # noqa: SIM115 - the caller's
    room.truncate(OUTPUT_LIMIT_BYTES)
    fcntl.fcntl(room, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return room


def _text(room: BinaryIO) -> str:
    room.seek(0)
    return room.read(OUTPUT_LIMIT_BYTES).rstrip(b"\0").decode(errors="replace")


def _wait(pid: int, deadline_s: float) -> bool:
    """Whether a child ends within the time; it is left to be reaped."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()  # not select(), which takes no descriptor above 1023
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(deadline_s * 1000))
    finally:
        os.close(descriptor)
