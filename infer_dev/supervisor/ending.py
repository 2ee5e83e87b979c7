"""What follows when a process has ended: what it left is ended, its exit status taken, the cause found."""

import asyncio
import logging
import random
from collections.abc import Callable
from signal import SIGKILL

from infer_dev.host import ports
from infer_dev.host.gpu import driver as gpu
from infer_dev.host.log import file as logfile
from infer_dev.host.process.pidfd import Exit, Process
from infer_dev.host.process.sweep import sweep
from infer_dev.llama_cpp.cause import Cause
from infer_dev.llama_cpp.failure import classify
from infer_dev.plan.model import Spec
from infer_dev.supervisor.lifecycle import Exited, Failure
from infer_dev.supervisor.surroundings import Surroundings

log = logging.getLogger(__name__)

TAIL_LINES = 10
TAIL_LINE_CHARS = 400
CLASSIFY_LINES = 200
CLASSIFY_LINE_CHARS = 1000


async def follow_up(
    process: Process, spec: Spec, around: Surroundings, log_start: int, others: Callable[[Exited], None]
) -> Exited:
    """What became of an ended process, once nothing of it is left. Raises nothing: whatever goes wrong, it has ended.

    Args:
        process: it; reaped, and let go of.
        spec: its instance.
        around: what instances share.
        log_start: byte offset in its log at which it began to write.
        others: told how it ended if it left something that has to be waited for: processes, GPU memory.
    """
    driver, gpus = around.gpu_driver, spec.gpus
    told: list[Exited] = []

    def tell() -> None:
        told.append(_explained(process.peek(), spec, around, log_start))
        others(told[0])

    try:
        if driver is not None and gpus != ():
            tell()
            await sweep(process, spec.name, around.scan)
            await asyncio.to_thread(gpu.wait_until_released, driver, gpus, [process.pid])
        else:
            await sweep(process, spec.name, around.scan, tell)
    except Exception:  # owner: its instance; it has ended all the same, and must not end the others
        log.exception("instance=%s: what it left could not be seen to", spec.name)
    ended = process.reap()
    if not ended.is_known:
        code = await around.orphans.take(process.pid, process.start_time)
        ended = Exit() if code is None else Exit.of_code(code)
    if told and told[0].failure.exit_status == ended.code:
        return told[0]
    return _explained(ended, spec, around, log_start)


async def clear_up(
    ended: Exit, spec: Spec, around: Surroundings, log_start: int, others: Callable[[Exited], None]
) -> Exited:
    """As `follow_up`, for a process that ended before this daemon began."""
    try:
        await sweep(None, spec.name, around.scan, lambda: others(_explained(ended, spec, around, log_start)))
    except Exception:  # owner: its instance; as above
        log.exception("instance=%s: what its process left could not be ended", spec.name)
    return _explained(ended, spec, around, log_start)


def _explained(ended: Exit, spec: Spec, around: Surroundings, log_start: int) -> Exited:
    failure = Failure(cause=Cause.UNKNOWN, detail=str(ended), exit_status=ended.code)
    try:
        failure = explain(spec, ended, log_start=log_start, oom_killed=around.oom_kills.rose())
    except Exception:  # owner: its instance; what cannot be explained has ended all the same
        log.exception("instance=%s: its end could not be explained", spec.name)
    return Exited(failure, clean=ended.ok, jitter=random.random())  # noqa: S311 - no secret


def explain(spec: Spec, ended: Exit, *, log_start: int, oom_killed: bool) -> Failure:
    """The failure that an end nobody asked for is.

    Args:
        spec: the instance.
        ended: how its process ended.
        log_start: byte offset in its log at which this process began to write.
        oom_killed: the kernel's out-of-memory killer was at work.
    """
    lines, _ = logfile.tail(spec.command.log_file, CLASSIFY_LINES, since=log_start)
    lines = [line[:CLASSIFY_LINE_CHARS] for line in lines if not line.startswith(logfile.START_MARK)]
    cause, detail = classify(status=ended.status, signal=ended.signal, lines=lines), str(ended)
    if cause is Cause.PORT_IN_USE:
        cause, detail = _explain_bind(spec)
    if oom_killed and ended.signal == SIGKILL:
        cause, detail = Cause.OUT_OF_MEMORY_HOST, f"{detail} by the kernel's out-of-memory killer"
    last = tuple(line[:TAIL_LINE_CHARS] for line in lines[-TAIL_LINES:])
    return Failure(cause=cause, detail=detail, exit_status=ended.code, log_tail=last)


def _explain_bind(spec: Spec) -> tuple[Cause, str]:
    """Why the server could not listen: it says the same of a port in use and of an address not of this host."""
    at = spec.endpoint
    if ports.is_free(at):
        return Cause.BAD_ARGUMENT, f"cannot listen on {at}, though it is free"
    return Cause.PORT_IN_USE, ports.taken(at)
