"""Who has to leave for an instance, and whether it can work at all: looked at before anything is changed."""

import asyncio
import logging
import os
from collections.abc import Collection, Sequence

from infer_dev.check.verdict import cause_of
from infer_dev.errors import InferDevError, NotFoundError, UsageError
from infer_dev.host import ports
from infer_dev.host.log import file as logfile
from infer_dev.llama_cpp.cause import NEXT_STEP, Cause
from infer_dev.plan.argv import MODEL_FLAGS, MODEL_SOURCE_ENV, MODEL_SOURCE_FLAGS, flag_value, has_flag, names_a_model
from infer_dev.plan.conflicts import overlap
from infer_dev.plan.model import Command, Endpoint, Spec
from infer_dev.supervisor.order import Seat
from infer_dev.supervisor.reading import Reader
from infer_dev.supervisor.reconcile import is_at_rest
from infer_dev.supervisor.supervisor import Supervisor
from infer_dev.supervisor.switch.receipt import Fault, Phase, SwitchFaultError

log = logging.getLogger(__name__)

OF_MEMORY = frozenset({Cause.OUT_OF_MEMORY_GPU, Cause.OUT_OF_MEMORY_HOST})


def find(word: str, seats: Sequence[Seat]) -> Seat:
    """The instance with this name, else the one with this alias.

    Raises:
        NotFoundError: there is none.
        UsageError: several have this alias.
    """
    named = [seat for seat in seats if seat.spec.name == word] or [seat for seat in seats if seat.spec.alias == word]
    if len(named) > 1:
        names = ", ".join(seat.spec.name for seat in named)
        raise UsageError(f"cannot tell which instance is meant: {word!r} is the alias of {names}", hint="name one")
    if not named:
        raise NotFoundError(f"cannot find a model named {word!r}", hint=_hint(word, seats))
    return named[0]


def _hint(word: str, seats: Sequence[Seat]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - needed for a typing mistake only

    names = [seat.spec.name for seat in seats]
    near = get_close_matches(word, [*names, *(seat.spec.alias for seat in seats if seat.spec.alias)], n=1)
    known = ", ".join(names) or "none; start some with `infer-dev up FILE`"
    return f"did you mean {near[0]!r}? instances: {known}" if near else f"instances: {known}"


def leaving(target: Spec, seats: Sequence[Seat]) -> list[Seat]:
    """Those that have to leave before `target` can run: of its group; without one, those on its port. Pure."""
    return [
        seat
        for seat in seats
        if seat.spec.name != target.name and not is_at_rest(seat) and _cannot_run_beside(target, seat.spec)
    ]


def _cannot_run_beside(target: Spec, other: Spec) -> bool:
    return other.group == target.group if target.group is not None else overlap(target.endpoint, other.endpoint)


def look(target: Spec, freed: Collection[Endpoint]) -> None:
    """Look for what would keep `target` from running: it reads of the disk, so call it in a thread.

    Args:
        target: what shall be started.
        freed: the endpoints of those that leave before.

    Raises:
        SwitchFaultError: it cannot work.
    """
    command = target.command
    if not names_a_model(command.argv, command.env):
        raise _refused(Cause.BAD_ARGUMENT, f"{target.name} has no model", "set server.model, hf_repo or the like")
    binary = os.path.join(command.cwd, command.argv[0])
    if not (os.path.isfile(binary) and os.access(binary, os.X_OK)):
        raise _refused(Cause.BINARY_UNUSABLE, f"{binary} is no program that can be run")
    model = flag_value(command.argv, MODEL_FLAGS)
    if model is not None and not _is_fetched(command):
        path = os.path.join(command.cwd, model)
        if not os.path.isfile(path):
            raise _refused(Cause.MODEL_NOT_FOUND, f"there is no model file {path}")
        if not os.access(path, os.R_OK):
            raise _refused(Cause.MODEL_UNREADABLE, f"the model file {path} cannot be read")
    if not any(overlap(target.endpoint, one) for one in freed) and not ports.is_free(target.endpoint):
        raise _refused(Cause.PORT_IN_USE, ports.taken(target.endpoint))
    if reason := logfile.obstacle(command.log_file):
        raise _refused(Cause.LOG_UNWRITABLE, f"the log {command.log_file} cannot be written: {reason}")


def _is_fetched(command: Command) -> bool:
    """Whether the server gets the model from elsewhere: then its file need not be there yet."""
    flags = [flag for flag in MODEL_SOURCE_FLAGS if flag not in MODEL_FLAGS]
    variables = [f"LLAMA_ARG_{name}" for name in MODEL_SOURCE_ENV if name != "MODEL"]
    return has_flag(command.argv, flags) or any(name in command.env for name in variables)


def _refused(cause: Cause, detail: str, hint: str = "") -> SwitchFaultError:
    fault = Fault(phase=Phase.PREFLIGHT, detail=detail, hint=hint or NEXT_STEP[cause], cause=cause)
    return SwitchFaultError(fault)


async def examine(target: Spec, supervisor: Supervisor, reader: Reader) -> None:
    """Have `target` checked as `up` would check it, as far as its file still says the same of it.

    Raises:
        SwitchFaultError: a check says that it cannot work.
    """
    source = supervisor.sources.get(target.source)
    if source is None or not reader.has_judge:
        return
    try:
        reading = await asyncio.to_thread(reader.read, source)
    except InferDevError as err:
        log.info(
            "switch to %s: its file cannot be read now, what it said before counts: %s", target.name, err.message
        )
        return
    said = [spec for spec in reading.plan.specs if spec.name == target.name]
    if not said or said[0].command != target.command:
        log.info("switch to %s: its file says something else by now: not checked", target.name)
        return
    pairs = zip(supervisor.seats(), supervisor.status(), strict=True)
    running = {seat.spec.endpoint: status.pid for seat, status in pairs if seat.has_process}
    verdict = await reader.judged(reading, [target.name], running)
    for error in verdict.errors:
        if cause_of(error) in OF_MEMORY:  # measured while the old one has its part
            continue
        fault = Fault(phase=Phase.PREFLIGHT, detail=error.message, hint=error.hint, cause=cause_of(error))
        raise SwitchFaultError(fault)
