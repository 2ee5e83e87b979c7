"""`infer-dev switch`."""

from __future__ import annotations

import json
import os
import sys
import time

from infer_dev.cli.launch import answers_soon, client
from infer_dev.cli.text import duration, is_terminal, sanitized
from infer_dev.errors import (
    EXIT_FAILED,
    EXIT_OK,
    InferDevError,
    NotFoundError,
    UnavailableError,
    UsageError,
    from_problem,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from infer_dev.api.client import DaemonClient

SUCCESSOR_S = 3.0  # boot and systemd start another daemon within one
POLL_S = 0.2
CANCEL_S = 5.0
CANCEL = "/switch/cancel"
UNKNOWN_TICKET = "unknown key 'ticket'"


def switch(name: str, *, wait: bool = False, drain_timeout_s: float | None = None, as_json: bool = False) -> int:
    """Switch to an instance; its phases on stderr as they pass, the receipt on stdout."""
    body = {"model": name, "wait": wait, "drain_timeout_s": drain_timeout_s, "ticket": os.urandom(8).hex()}
    receipt = _receipt(client(), body, Phases(live=is_terminal(sys.stderr)))
    if as_json:
        print(json.dumps(receipt, ensure_ascii=False, indent=2))
        return EXIT_OK if receipt["ok"] else EXIT_FAILED
    if receipt["ok"]:
        print(sanitized(told(receipt), terminal=True))
        return EXIT_OK
    print(sanitized(f"infer-dev: {receipt['error']}", terminal=True), file=sys.stderr)
    for line in receipt["log_tail"]:
        print(f"    {sanitized(line, terminal=True)}", file=sys.stderr)
    if receipt["hint"]:
        print(f"  hint: {sanitized(receipt['hint'], terminal=True)}", file=sys.stderr)
    return EXIT_FAILED


def _receipt(daemon: DaemonClient, body: Mapping[str, object], shown: Phases) -> Mapping[str, Any]:  # Any: JSON
    """Ask for the switch and follow it to its receipt; if its daemon goes away, to that of the next one."""
    begun: Mapping[str, Any] | None = None
    gone = UnavailableError("cannot tell how the switch ended: the daemon is gone", hint="see `infer-dev status`")
    try:
        try:
            for event, data in _steps(daemon, body):
                match event:
                    case "begin":
                        shown.begin(data)
                        begun = data
                    case "phase":
                        shown.end(data)
                    case "receipt":
                        return data
                    case "error":
                        raise from_problem(data)
        except UnavailableError as err:
            if begun is None:
                raise
            gone = err
        shown.close()
        return _from_next_daemon(daemon, begun, gone)
    except KeyboardInterrupt:
        shown.close()
        print(_called_off(daemon, body["ticket"], begun), file=sys.stderr)
        raise
    finally:
        shown.close()


def _steps(daemon: DaemonClient, body: Mapping[str, object]) -> Iterator[tuple[str, dict[str, Any]]]:  # Any: JSON
    """What the daemon tells of the switch; one of an older version knows no tickets, and is asked without."""
    try:
        yield from daemon.post_stream("/switch?stream=1", body)
    except UsageError as err:
        if UNKNOWN_TICKET not in err.message:
            raise
        yield from daemon.post_stream("/switch?stream=1", {key: body[key] for key in body if key != "ticket"})


def _called_off(daemon: DaemonClient, ticket: object, begun: Mapping[str, Any] | None) -> str:  # Any: JSON
    """Call the switch off, if that can still be; returns what came of it, for people.

    Tickets are known to the daemon that was asked; to the one after it, which finishes the switch, its id is.
    """
    see = "see `infer-dev status --json`, `infer-dev events`"
    words = [{"ticket": ticket}, *([{"id": begun["id"]}] if begun else [])]
    for word in words:
        try:
            if daemon.post(CANCEL, word, timeout_s=CANCEL_S)["cancelled"]:
                return "the switch was called off: nothing was changed"
        except NotFoundError as err:
            if CANCEL in err.message:  # it is the route that cannot be found
                return f"the switch goes on, a daemon of this version cannot call it off: {see}"
            continue
        except InferDevError:
            return f"cannot call the switch off: {see}"
        return f"the switch goes on, the old one has been stopped: {see}"
    return f"the switch is over: {see}"


class Phases:
    """Shows the phases: a line each once it is over; `live`: the one under way as well."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._is_titled = self._is_open = False

    def begin(self, data: Mapping[str, Any]) -> None:  # Any: JSON
        """A phase begins."""
        if not self._is_titled and data["from"] is not None:
            self._is_titled = True
            print(f"{data['from']} -> {data['to']}", file=sys.stderr)
        if self._live:
            self._is_open = True
            print(f"  {data['phase']} …", end="", file=sys.stderr, flush=True)

    def end(self, data: Mapping[str, Any]) -> None:  # Any: JSON
        """It is over."""
        self._is_open = False
        start = "\r" if self._live else ""
        print(f"{start}  {data['phase']:<9} {duration(data['seconds'])}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing more comes; what does goes to a line of its own."""
        if self._is_open:
            self._is_open = False
            print(file=sys.stderr)


def told(receipt: Mapping[str, Any]) -> str:
    """The receipt of a switch that succeeded, as one line. Any: JSON."""
    if not receipt["changed"]:
        return f"{receipt['to']} runs already: nothing to do"
    instead = f" instead of {receipt['from']}" if receipt["from"] else ""
    said = f", it says {receipt['completion']!r}" if receipt["completion"] else ""
    return f"{receipt['to']} serves{instead} after {duration(receipt['seconds'])}{said}"


def _from_next_daemon(
    daemon: DaemonClient, begun: Mapping[str, Any] | None, gone: UnavailableError
) -> Mapping[str, Any]:  # Any: JSON
    """The receipt of a switch whose daemon went away: the next one finishes it.

    Raises:
        UnavailableError: `gone`; there is no next one, or it knows nothing of the switch.
    """
    while begun is not None and answers_soon(SUCCESSOR_S):
        try:
            latest = daemon.get("/status")["daemon"]["switch"]
        except UnavailableError:
            continue
        if latest is None or latest["id"] != begun["id"]:
            break
        if "ok" in latest:
            return dict(latest)
        time.sleep(POLL_S)
    raise gone
