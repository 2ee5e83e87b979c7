"""Waits for instances to settle and shows how they get on: live on a terminal, a line a transition elsewhere."""

from __future__ import annotations

import sys
import time

from infer_dev.api.client import DaemonClient, status_target
from infer_dev.api.pieces import Ended
from infer_dev.cli.text import duration, is_terminal, sanitized
from infer_dev.errors import EXIT_FAILED, EXIT_OK, NotFoundError, TimedOutError, UnavailableError
from infer_dev.states import SETTLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Any


SUCCESSOR_S = 3.0  # boot and systemd start another daemon within one; after `down` none comes
RETRY_S = 0.05
UNSAID = (("reload", "done"), ("boot-error", "told"))  # what these come to, unless something else is said


def deadline_of(timeout_s: float | None) -> float | None:
    """The monotonic time, in seconds, at which a wait that begins now is over."""
    return None if timeout_s is None else time.monotonic() + timeout_s


def wait_until_settled(
    daemon: DaemonClient, states: Mapping[str, str], *, after_id: int, deadline: float | None
) -> int:
    """Wait until each instance is ready or has failed; tell how it went on stderr.

    Args:
        daemon: the daemon.
        states: the instances and their states at the time of the request.
        after_id: the id of the last event before the request.
        deadline: monotonic time in seconds, or None.

    Returns:
        0, or 1 if one is not ready.

    Raises:
        TimedOutError: the deadline came first; the instances go on.
    """
    try:
        return _watch_until_settled(daemon, states, after_id=after_id, deadline=deadline)
    except NotFoundError as err:
        print(f"{err.message}: it was taken down meanwhile", file=sys.stderr)
        return EXIT_FAILED


def _watch_until_settled(
    daemon: DaemonClient, states: Mapping[str, str], *, after_id: int, deadline: float | None
) -> int:
    if is_terminal(sys.stderr):
        from infer_dev.cli.live import watch_live  # noqa: PLC0415 - rich, on a terminal only

        last = watch_live(daemon, list(states), until=SETTLED, deadline=deadline)
        if not all(state in SETTLED for state in last.values()):
            raise timed_out(last)
    else:
        for name, state in states.items():
            if state in SETTLED:
                print(f"{name} {state}", file=sys.stderr)
        last = follow_states(daemon, states, until=SETTLED, after_id=after_id, deadline=deadline, show=True)
    failed = [name for name, state in last.items() if state != "ready"]
    if not failed:
        return EXIT_OK
    print(failure_report(daemon.get(status_target(failed))["instances"]), file=sys.stderr)
    return EXIT_FAILED


def follow_states(
    daemon: DaemonClient,
    states: Mapping[str, str],
    *,
    until: Collection[str],
    after_id: int = 0,
    deadline: float | None = None,
    show: bool = False,
) -> dict[str, str]:
    """Follow the events until every instance is in one of the states `until`; returns their last states."""
    last = dict(states)
    if all(state in until for state in last.values()):
        return last
    try:
        for event in events_of_all_daemons(daemon, after_id, deadline=deadline):
            name = event["instance"]
            if name not in last or event.get("kind", "transition") != "transition":
                continue
            last[name] = event["new"]
            if show:
                print(transition_line(event), file=sys.stderr, flush=True)
            if all(state in until for state in last.values()):
                return last
            if deadline is not None and time.monotonic() >= deadline:
                break
    except TimedOutError:
        pass
    if deadline is None:
        return last
    raise timed_out(last)


def events_of_all_daemons(
    daemon: DaemonClient, after_id: int, *, deadline: float | None = None
) -> Iterator[dict[str, Any]]:  # Any: JSON
    """The events after an id; if the daemon goes away and another one takes over, also that one's: ids go on.

    Raises:
        TimedOutError: the deadline came.
    """
    while True:
        try:
            timeout_s = None if deadline is None else max(0.001, deadline - time.monotonic())
            for event in daemon.events(after_id, timeout_s=timeout_s):
                after_id = event["id"]
                yield event
        except Ended:
            return
        except UnavailableError:
            pass
        if not _comes_back(daemon, deadline):
            return


def _comes_back(daemon: DaemonClient, deadline: float | None) -> bool:
    end = min(time.monotonic() + SUCCESSOR_S, deadline or float("inf"))
    while time.monotonic() < end:
        if daemon.is_alive():
            return True
        time.sleep(RETRY_S)
    return False


def timed_out(states: Mapping[str, str]) -> TimedOutError:
    """The error of a wait that ended before the instances settled."""
    waiting = ", ".join(f"{name} is {state}" for name, state in states.items() if state not in SETTLED)
    return TimedOutError(
        f"cannot wait longer: {waiting or 'time is up'}", hint="it goes on by itself: see `infer-dev status`"
    )


def transition_line(event: Mapping[str, Any]) -> str:
    """One event as a line. Any: JSON."""
    name, new = event["instance"], event["new"]
    if (kind := event.get("kind", "transition")) != "transition":
        return sanitized(_line_of_kind(kind, event), terminal=True)
    if new == "ready":
        again = f" again: {sanitized(event['detail'], terminal=True)}," if event.get("detail") else ""
        return f"{name} ready{again} after {duration(event['after_s'])}"
    why = f": {event['cause']}: {event['detail']}" if event["cause"] else ""
    return f"{name} {new}{sanitized(why, terminal=True)}"


def _line_of_kind(kind: str, event: Mapping[str, Any]) -> str:
    """What is told of anything but a transition, in one line. Any: JSON."""
    words = (kind, event["instance"], "" if (kind, event["new"]) in UNSAID else event["new"])
    subject = " ".join(word for word in words if word)
    if event["old"]:
        subject += f", {event['old']} took {duration(event['after_s'])}"
    cause = f"{event['cause']}: " if event.get("cause") else ""
    detail = "; ".join(line.strip() for line in event["detail"].splitlines() if line.strip())
    return f"{subject}: {cause}{detail}" if cause or detail else subject


def failure_report(instances: Collection[Mapping[str, Any]]) -> str:
    """Why instances are not ready: cause, next step, the log's last lines. Any: JSON."""
    from infer_dev.llama_cpp.cause import NEXT_STEP, Cause  # noqa: PLC0415 - for a failure only

    parts = []
    for one in instances:
        why = f": {one['cause']}: {one['detail']}" if one["cause"] else ""
        lines = [f"{one['name']} {one['state']}{sanitized(why, terminal=True)}"]
        lines += [f"    {sanitized(line, terminal=True)}" for line in one["log_tail"]]
        if one["cause"]:
            lines.append(f"  hint: {NEXT_STEP.get(Cause(one['cause']), 'read the log')}")
        lines.append(f"  log: {one['log_file']}")
        parts.append("\n".join(lines))
    return "\n".join(parts)
