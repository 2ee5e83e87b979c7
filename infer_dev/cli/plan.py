"""`infer-dev plan` and `reload`."""

from __future__ import annotations

import json
import os
import sys

from infer_dev.cli.boot_step import instances_are_up
from infer_dev.cli.launch import client
from infer_dev.cli.paths import config_path
from infer_dev.errors import EXIT_CONFIG, EXIT_OK, NotFoundError
from infer_dev.settings import other_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from infer_dev.api.client import DaemonClient

SHOWN_CHARS = 60


def plan(config: str | None = None, *, as_json: bool = False) -> int:
    """Show what `up` would do with a file now; where there is a daemon, also what a check has against it."""
    path = config_path(config)
    daemon = client()
    if is_there := daemon.is_alive():
        from infer_dev.api.client import caller_request  # noqa: PLC0415 - where there is a daemon
        from infer_dev.cli.patience import telling  # noqa: PLC0415 - as above

        slow = telling(daemon, "plan", os.path.abspath(path))
        answer = daemon.post("/plan", caller_request(path, os.environ), when_slow=slow)
    else:
        answer = _without_a_daemon(path)
    if as_json:
        print(json.dumps(answer, ensure_ascii=False))
    elif not answer["enabled"]:
        print(f"{path}: master.enable is false: nothing is started")
    else:
        for line in plan_lines(answer):
            print(line)
    errors = _errors(daemon, path, answer["starting"]) if is_there else []
    if errors:
        count = f"{len(errors)} error{'s' if len(errors) != 1 else ''}"
        print("\n".join([f"infer-dev: the check finds {count} in what would start:", *errors]), file=sys.stderr)
    return EXIT_CONFIG if errors else EXIT_OK


def reload(
    config: str | None = None, *, wait: bool = True, timeout_s: float | None = None, check: bool = True
) -> int:
    """Read files that are up again; wait until what was started is ready or has failed."""
    from infer_dev.cli.patience import telling  # noqa: PLC0415 - for this command only
    from infer_dev.cli.progress import deadline_of, wait_until_settled  # noqa: PLC0415 - as above
    from infer_dev.cli.up import tell_warnings  # noqa: PLC0415 - as above

    deadline = deadline_of(timeout_s)
    daemon = client()
    if other_user():
        from infer_dev.cli.account import give_log_folders  # noqa: PLC0415 - for root only

        up = {str(one["source"]) for one in daemon.get("/status")["instances"]}
        give_log_folders([config] if config else sorted(up))
    path = os.path.abspath(config) if config else None
    slow = telling(daemon, "reload", *([path] if path else []))
    answer = daemon.post("/reload", {"config": path, "check": check}, when_slow=slow)
    for path, result in answer["files"].items():
        tell_warnings(result["warnings"])
        if not result["refused"]:
            instances_are_up(path)
        changes = result["changes"]
        told = [f"{len(names)} {word}" for word, names in changes.items() if names]
        print(f"{path}: {', '.join(told) or 'no instances'}", file=sys.stderr)
    if not wait:
        return EXIT_OK
    return wait_until_settled(daemon, answer["states"], after_id=answer["last_id"], deadline=deadline)


def plan_lines(answer: Mapping[str, Any]) -> list[str]:
    """What an answer to `/plan` means, a line an instance. Any: JSON."""
    changes, starting, stopping = answer["changes"], answer["starting"], answer["stopping"]
    verbs: list[tuple[str, str, Sequence[str]]] = [("- stop", name, ()) for name in changes["gone"]]
    for kind in ("new", "changed", "updated", "unchanged"):
        for name in changes[kind]:
            why = [_difference(one) for one in answer["differences"].get(name, ())]
            if name in starting:
                verb = "~ restart" if name in stopping else "+ start"
            elif name in stopping:
                verb = "- stop"
            else:
                verb = {"new": "+ add", "changed": "· update", "updated": "· update"}.get(kind, "= keep")
            verbs.append((verb, name, why))
    width = max((len(name) for _, name, _ in verbs), default=0)
    return [f"{verb:<10} {name:<{width}}  {'; '.join(why)}".rstrip() for verb, name, why in verbs] or ["nothing"]


def _errors(daemon: DaemonClient, path: str, starting: Sequence[str]) -> list[str]:
    """The errors that a check finds in what would start, a line each."""
    if not starting:
        return []
    from infer_dev.api.client import caller_request  # noqa: PLC0415 - where something would start
    from infer_dev.check.finding import Finding, Level, told_once  # noqa: PLC0415 - as above
    from infer_dev.cli.check import plain_line  # noqa: PLC0415 - as above

    try:
        answer = daemon.post("/check", caller_request(path, os.environ))
    except NotFoundError:  # the route: a daemon of an older version
        return []
    wanted = {"", *starting}
    told = told_once(map(Finding.from_json, answer["findings"]))
    return [f"  {plain_line(one, of)}" for one, of in told if one.level is Level.ERROR and wanted.intersection(of)]


def _difference(one: Mapping[str, str]) -> str:
    if not one["old"] and not one["new"]:
        return one["what"]
    if not one["old"]:
        return f"{one['what']} {_short(one['new'])}"
    return f"{one['what']} {_short(one['old'])} -> {_short(one['new']) or 'none'}"


def _short(text: str) -> str:
    from infer_dev.cli.text import sanitized  # noqa: PLC0415 - only where something differs

    text = sanitized(text, terminal=True).replace("\n", " ")
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 1]}…"


def _without_a_daemon(path: str) -> dict[str, Any]:  # Any: JSON
    """The answer of a daemon that has nothing up."""
    from dataclasses import asdict  # noqa: PLC0415 - only without a daemon

    from infer_dev.check.preflight import refuse_conflicts  # noqa: PLC0415 - as above
    from infer_dev.check.resolve import resolve, source_of_caller  # noqa: PLC0415 - pydantic
    from infer_dev.supervisor.reconcile import intend  # noqa: PLC0415 - as above

    found = resolve(source_of_caller(path, os.environ), os.environ)
    if found.enabled:
        refuse_conflicts(found, ())
    intent = intend(found, {}, (), start_resting=True)
    return {
        "enabled": found.enabled,
        "changes": asdict(intent.changes),
        "starting": list(intent.starting),
        "stopping": [],
        "differences": {},
    }
