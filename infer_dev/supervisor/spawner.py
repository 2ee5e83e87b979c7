"""Starts the process of an instance, or tells in its terms why it cannot be started."""

import errno
import logging
import os
import random
import time
from dataclasses import dataclass

from infer_dev import __version__
from infer_dev.host import ports
from infer_dev.host.log import file as logfile
from infer_dev.host.process.marks import Mark
from infer_dev.host.process.pidfd import Process, spawn
from infer_dev.llama_cpp.cause import Cause
from infer_dev.plan.argv import redacted
from infer_dev.plan.model import Command, Spec
from infer_dev.supervisor.lifecycle import Failure, SpawnFailed
from infer_dev.supervisor.surroundings import Surroundings

log = logging.getLogger(__name__)

SHORT_OF_RESOURCES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class Started:
    """A process that runs.

    Attributes:
        process: which.
        log_start: byte offset in the log at which what it writes begins.
        spawn: the mark that it and its descendants alone carry.
    """

    process: Process
    log_start: int
    spawn: str


def start(spec: Spec, around: Surroundings) -> Started | SpawnFailed:
    """Start the process of `spec`, its port tried and its log opened before."""
    if not ports.is_free(spec.endpoint):
        return _failed(Cause.PORT_IN_USE, ports.taken(spec.endpoint))
    ports.remove_stale_socket(spec.endpoint)
    command = spec.command
    try:
        output_fd = logfile.open_log(command.log_file)
    except OSError as err:
        return _failed(Cause.LOG_UNWRITABLE, f"cannot write {command.log_file}: {err.strerror}", err)
    try:
        log_start = logfile.end_offset(command.log_file)
        logfile.write_start_line(output_fd, __version__, redacted(command.argv))
        mark = Mark(
            instance=spec.name,
            runtime=around.runtime,
            source=spec.source,
            digest=command.digest,
            spawn=f"{time.monotonic_ns():x}",
        )
        env = {**around.inherited, **command.env, **mark.variables()}
        process = spawn(command.argv, env=env, cwd=command.cwd, output_fd=output_fd)
    except OSError as err:
        return _explained(command, err)
    finally:
        os.close(output_fd)
    if around.scan.cgroups is not None:
        try:
            around.scan.cgroups.join(spec.name, process.pid)
        except OSError as err:
            log.warning("instance=%s: cannot put it into a control group: %s", spec.name, err.strerror)
    return Started(process, log_start, mark.spawn)


def _explained(command: Command, err: OSError) -> SpawnFailed:
    if err.errno == errno.E2BIG:
        return _failed(Cause.BAD_ARGUMENT, "cannot pass an argument this long (128 KiB at most)")
    if err.filename == command.cwd:
        return _failed(Cause.BAD_ARGUMENT, f"cannot enter {command.cwd}: {err.strerror}")
    return _failed(Cause.BINARY_UNUSABLE, f"cannot start {command.argv[0]}: {err.strerror}", err)


def _failed(cause: Cause, detail: str, err: OSError | None = None) -> SpawnFailed:
    """`err`: what the host answered; one that will pass is no fault of the command's."""
    jitter = random.random()  # noqa: S311 - no secret
    if err is not None and err.errno in SHORT_OF_RESOURCES:
        failure = Failure(cause=Cause.UNKNOWN, detail=f"cannot start a process: {err.strerror}")
        return SpawnFailed(failure, retry=True, jitter=jitter)
    return SpawnFailed(Failure(cause=cause, detail=detail), jitter=jitter)
