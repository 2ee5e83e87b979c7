"""`infer-dev banner`: what a login shows, in four lines at most. It takes no longer than a second and never fails."""

from __future__ import annotations

import os
import signal
import sys

from infer_dev import __version__
from infer_dev.api.client import status_target
from infer_dev.cli.launch import boot_keeps, client
from infer_dev.cli.text import duration
from infer_dev.errors import EXIT_OK, InferDevError, TimedOutError, UnavailableError
from infer_dev.host.printable import printable_line
from infer_dev.host.runtime.notes import boot_errors
from infer_dev.settings import CONFIG_VAR, runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType
    from typing import Any

ANSWER_S = 0.5
FETCHED_BY_S = 0.7  # whatever it is that takes long
OVER_BY_S = 0.9
UNLIMITED = 10**6
MOST_SHOWN = 20
OWN = "infer-dev: "  # what our messages begin with
DOT = " · "
WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - it is what a server may be bound to
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def banner() -> int:
    """Print the lines; whatever goes wrong, the login goes on."""
    try:
        lines = banner_lines(*_found(), width=_width())
        signal.signal(signal.SIGALRM, lambda *_: os._exit(EXIT_OK))  # a terminal that takes nothing
        signal.setitimer(signal.ITIMER_REAL, OVER_BY_S - FETCHED_BY_S)
        os.write(1, "".join(f"{line}\n" for line in lines).encode(sys.stdout.encoding or "utf-8", "replace"))
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Exception:  # noqa: BLE001, S110 - owner: the shell that logs in; there is nobody to tell
        pass
    return EXIT_OK


def banner_lines(
    answer: Mapping[str, Any] | None, problem: InferDevError | None, errors: Sequence[str], *, width: int
) -> list[str]:
    """The lines.

    Args:
        answer: what `/status` said, if anything. Any: JSON.
        problem: why there is no answer.
        errors: what boot could not do.
        width: of the terminal, in cells.
    """
    if answer is None:
        first, next_step = _without_answer(problem)
        lines = [DOT.join(_head(first)), _boot_line(errors), f"next: {next_step}"]
    else:
        instances = answer["instances"]
        daemon = answer["daemon"]
        head = _head(
            f"daemon pid {daemon['pid']} up {duration(daemon['uptime_s'])}", daemon["config"] or "nothing is up"
        )
        failed = [one for one in instances if one["state"] == "failed"]
        lines = [DOT.join(head), _ready_line(instances, width), _failed_line(failed) or _boot_line(errors)]
        lines[-1] = lines[-1] or _api_line(daemon.get("api_fault"))
        lines.append(f"next: {_next_step(instances, failed, errors)}")
    return [_cut(printable_line(line), width) for line in lines if line]


def _found() -> tuple[Mapping[str, Any] | None, InferDevError | None, list[str]]:
    """What `banner_lines` is told."""
    signal.signal(signal.SIGALRM, _too_late)
    signal.setitimer(signal.ITIMER_REAL, FETCHED_BY_S)
    errors: list[str] = []
    try:
        errors = boot_errors(runtime_dir())
        answer = client().get(status_target(()), timeout_s=ANSWER_S)
    except InferDevError as err:
        return None, err, errors
    except OSError:  # of the alarm; or so many wait to be connected that the kernel takes no more
        return None, TimedOutError("cannot wait longer"), errors
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return answer, None, errors


def _too_late(_: int, __: FrameType | None) -> None:
    raise TimeoutError


def _head(*words: str) -> list[str]:
    return [f"infer-dev {__version__}", *words]


def _without_answer(problem: InferDevError | None) -> tuple[str, str]:
    """What the first line says of the daemon, and the next step."""
    if isinstance(problem, TimedOutError):
        return "daemon does not answer", "infer-dev daemon --replace (no server is touched)"
    if isinstance(problem, UnavailableError) and isinstance(problem.__cause__, PermissionError):
        return "daemon of another user", problem.hint
    if isinstance(problem, UnavailableError) and isinstance(
        problem.__cause__, FileNotFoundError | ConnectionRefusedError
    ):
        if boot_keeps(runtime_dir()):
            return "no daemon runs yet: boot starts one", "infer-dev status"
        return "no daemon runs", "infer-dev up" if os.environ.get(CONFIG_VAR) else "infer-dev up FILE"
    return "daemon does not answer", "infer-dev status"


def _ready_line(instances: Sequence[Mapping[str, Any]], width: int) -> str:  # Any: JSON
    ready = [_ready(one) for one in instances if one["state"] == "ready"]
    others: dict[str, int] = {}
    for one in instances:
        if one["state"] not in ("ready", "failed"):
            others[one["state"]] = others.get(one["state"], 0) + 1
    counted = ", ".join(f"{count} {state}" for state, count in others.items())
    line = ""
    for shown in range(min(len(ready), MOST_SHOWN), -1, -1):
        hidden = len(ready) - shown
        more = ([f"+{hidden} more ready" if shown else f"{hidden} ready"] if hidden else []) + (
            [counted] if counted else []
        )
        line = DOT.join([*ready[:shown], *more])
        if _cells(line) <= width:
            break
    return line


def _ready(one: Mapping[str, Any]) -> str:  # Any: JSON
    if not one["port"]:
        return f"{one['name']} ready {one['host']}"
    host = WILDCARDS.get(one["host"], one["host"])
    return f"{one['name']} ready http://{host}:{one['port']}"


def _failed_line(failed: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON
    if not failed:
        return ""
    first = failed[0]
    more = f" (+{len(failed) - 1} more failed)" if len(failed) > 1 else ""
    return f"{first['name']} failed{more}: {first['cause'] or 'unknown'}: {first['detail']}".rstrip(": ")


def _boot_line(errors: Sequence[str]) -> str:
    more = f" (+{len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"boot{more}: {_cause_of(errors[0])}" if errors else ""


def _api_line(note: str | None) -> str:
    return f"API: {note}" if note else ""


def _cause_of(error: str) -> str:
    """The line that says why: the command's own, below boot's."""
    lines = [line.strip() for line in error.splitlines()]
    own = [line.removeprefix(OWN) for line in lines[1:] if line.startswith(OWN)]
    return own[0] if own else lines[0]


def _next_step(
    instances: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, Any]], errors: Sequence[str]
) -> str:  # Any: JSON
    if failed:
        return f"infer-dev status{DOT}infer-dev logs {_typed(failed[0]['name'])}"
    if errors:
        return "infer-dev status"
    if not instances:
        return "infer-dev up" if os.environ.get(CONFIG_VAR) else "infer-dev up FILE"
    name = _typed(instances[0]["name"])
    return f"infer-dev status{DOT}infer-dev logs {name} -f{DOT}infer-dev restart {name}"


def _typed(name: str) -> str:
    """A name as one types it in a shell."""
    return name if SAFE.issuperset(name) else "NAME"


def _width() -> int:
    """Cells in a line of the terminal; `shutil.get_terminal_size` would cost 8 ms to import."""
    if (given := os.environ.get("COLUMNS", "")).isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(1).columns or UNLIMITED
    except OSError:
        return UNLIMITED


def _cells(text: str) -> int:
    if text.replace("·", "").isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - names are seldom so

    return sum(0 if combining(one) else 1 + (east_asian_width(one) in "WF") for one in text)


def _cut(text: str, width: int) -> str:
    if _cells(text) <= width:
        return text
    while text and _cells(text) > width - 1:
        text = text[:-1]
    return f"{text}…"
