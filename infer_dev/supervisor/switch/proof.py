"""Whether an instance comes up and does its work: followed by the history, proven by one real completion."""

import asyncio
import json
import logging

from infer_dev.host.log import file as logfile
from infer_dev.llama_cpp.cause import NEXT_STEP, Cause
from infer_dev.plan.model import Spec
from infer_dev.supervisor.ending import TAIL_LINE_CHARS, TAIL_LINES
from infer_dev.supervisor.health import Outside, Reply, Subject
from infer_dev.supervisor.health.canary import Verdict, judge
from infer_dev.supervisor.health.server import Question, question
from infer_dev.supervisor.history import Kind, Record
from infer_dev.supervisor.lifecycle import State
from infer_dev.supervisor.order import Seat
from infer_dev.supervisor.supervisor import Supervisor
from infer_dev.supervisor.switch.receipt import Fault, Phase, SwitchFaultError

log = logging.getLogger(__name__)

RETRY_S = 0.1
TOKENS = 8  # a word or two to show; one alone may be nothing one can see
TEXT_CHARS = 200
WAIT_SLACK_S = 60.0
FAILING = frozenset({State.BACKOFF, State.FAILED, State.DEGRADED})


def seat_of(supervisor: Supervisor, name: str) -> Seat | None:
    """An instance's seat; None if it is no more."""
    return next((seat for seat in supervisor.seats() if seat.spec.name == name), None)


async def until_ready(supervisor: Supervisor, name: str) -> Seat:
    """Wait until an instance that was started is ready.

    Its own deadline bounds that (`ready_timeout_s`), and twice that what it may have to wait for before it loads.

    Returns:
        Its seat.

    Raises:
        SwitchFaultError: it failed, is sick, or somebody stopped it; the first failure counts, whatever its policy
            does next.
    """
    seat = _still_there(supervisor, name)
    if seat.state is State.READY:
        return seat
    if seat.state in FAILING:
        now = supervisor.status([name])[0]
        raise _failed(seat.spec, str(seat.state), now.cause, now.detail, now.log_tail)
    if not (seat.wanted or seat.state is State.STARTING):
        raise _stopped(seat.spec)
    longest_s = 2 * seat.spec.policy.ready_timeout_s + WAIT_SLACK_S
    try:
        async with asyncio.timeout(longest_s):
            return await _until_ready(supervisor, seat)
    except TimeoutError as err:
        now = supervisor.status([name])[0]
        told = f"not ready after {longest_s:g} s: {now.note or now.state}"
        raise _failed(seat.spec, now.state, Cause.READY_TIMEOUT, told, ()) from err


async def _until_ready(supervisor: Supervisor, seat: Seat) -> Seat:
    name = seat.spec.name
    async for record in supervisor.history.follow(supervisor.history.last_id):
        if record.kind != Kind.TRANSITION or record.instance != name:
            continue
        seat = _still_there(supervisor, name)
        _refuse_failure(seat, record)
        if seat.state is State.READY:
            return seat
    raise _stopped(seat.spec)


def _refuse_failure(seat: Seat, record: Record) -> None:
    """Raise if this record tells that the instance will not be ready as it was started."""
    if record.cause is not None:
        raise _failed(seat.spec, record.new, record.cause, record.detail, record.log_tail)
    if record.new in (State.STOPPED, State.DISABLED) and not seat.wanted:
        raise _stopped(seat.spec)


def _still_there(supervisor: Supervisor, name: str) -> Seat:
    seat = seat_of(supervisor, name)
    if seat is None:
        detail = f"{name} was taken down by somebody else meanwhile"
        raise SwitchFaultError(Fault(phase=Phase.READY, detail=detail, hint="bring its file up again"))
    return seat


def _failed(spec: Spec, state: str, cause: str | None, detail: str, tail: tuple[str, ...]) -> SwitchFaultError:
    told = f"{spec.name} {'is' if state == State.DEGRADED else 'failed'}: {cause}: {detail}".rstrip(": ")
    if state == State.DEGRADED:
        told = f"{spec.name} is degraded: {detail}"
    hint = NEXT_STEP.get(Cause(cause), "") if cause else ""
    return SwitchFaultError(Fault(phase=Phase.READY, detail=told, hint=hint, cause=cause, log_tail=tail))


def _stopped(spec: Spec) -> SwitchFaultError:
    detail = f"{spec.name} was stopped by somebody else meanwhile"
    return SwitchFaultError(Fault(phase=Phase.READY, detail=detail, hint="switch again, if it shall run"))


async def prove(supervisor: Supervisor, seat: Seat, timeout_s: float) -> str | None:
    """Ask an instance that is ready for one real completion, embedding or ranking, as it is made for.

    Returns:
        The text; None where there is none: it only embeds or ranks, or offers none of these.

    Raises:
        SwitchFaultError: it does not give one in time, or ended meanwhile.
    """
    spec, name = seat.spec, seat.spec.name
    before = supervisor.status([name])[0].pid
    asked = question(spec.command)
    if "prompt" in asked.body:
        asked = Question(asked.path, {**asked.body, "n_predict": TOKENS})
    outside = Outside(Subject(spec=lambda: spec, pid=before or 0))
    reply = Reply(asked.path, error=f"no answer within {timeout_s:g} s", is_late=True)
    verdict = Verdict.LATE
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                reply = await outside.ask(asked.path, body=asked.encoded(None), timeout_s=timeout_s)
                verdict = judge(reply)
                if verdict is not Verdict.UNKNOWN:
                    break
                await asyncio.sleep(RETRY_S)
    except TimeoutError:
        pass  # it is told by the latest answer
    seat_now = _still_there(supervisor, name)
    now = supervisor.status([name])[0]
    if now.pid != before or seat_now.state is not State.READY:
        if not seat_now.wanted:
            raise _stopped(spec)
        raise _failed(spec, seat_now.state, now.cause, now.detail or f"it is {now.state}", now.log_tail)
    if verdict is Verdict.NOT_OFFERED:
        log.warning("instance=%s offers no completion (%s): taken for well, as it is ready", name, reply)
    elif verdict is not Verdict.WELL:
        what = "a completion" if "prompt" in asked.body else f"a request to {asked.path}"
        told = f"{name} is ready, but {what} failed: {reply.error or f'HTTP {reply.status}'}"
        fault = Fault(phase=Phase.PROOF, detail=told, hint=NEXT_STEP[Cause.WEDGED], cause=Cause.WEDGED)
        raise SwitchFaultError(fault)
    return _text_of(reply)


def _text_of(reply: Reply) -> str | None:
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    text = found.get("content") if isinstance(found, dict) else None
    return text[:TEXT_CHARS] if isinstance(text, str) else None


def tail_of(spec: Spec, log_start: int) -> tuple[str, ...]:
    """The last lines of an instance's log from an offset on."""
    lines, _ = logfile.tail(spec.command.log_file, TAIL_LINES + 1, since=log_start)
    kept = [line[:TAIL_LINE_CHARS] for line in lines if not line.startswith(logfile.START_MARK)]
    return tuple(kept[-TAIL_LINES:])
