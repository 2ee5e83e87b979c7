"""`infer-dev up` and `down`."""

from __future__ import annotations

import os
import sys

from infer_dev.cli.boot_step import instances_are_up
from infer_dev.cli.launch import Launch, client
from infer_dev.cli.paths import config_path
from infer_dev.errors import EXIT_FAILED, EXIT_OK, InferDevError, UnavailableError
from infer_dev.settings import other_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from infer_dev.api.client import DaemonClient

EXIT_WAIT_S = 10.0


def up(
    config: str | None = None,
    *,
    wait: bool = True,
    timeout_s: float | None = None,
    check: bool = True,
    keep_going: bool = False,
) -> int:
    """Reconcile with a file; wait until every instance that starts by itself is ready or has failed."""
    path = config_path(config)
    if os.path.isdir(path) and sys.stdin.isatty():
        from infer_dev.cli.choice import can_choose, chosen  # noqa: PLC0415 - for a folder only

        path = (chosen(path) or "") if can_choose() else path
        if not path:
            print("nothing was chosen: nothing is started", file=sys.stderr)
            return EXIT_OK
    launch, is_new = Launch(), None
    try:
        # Where a daemon is only starting, the file is read here meanwhile: that takes both the same time.
        ahead = _read_ahead(path, check=check, keep_going=keep_going) if launch.is_needed else {}
    except InferDevError:
        is_new = launch.wait()
        if not _has_instances():
            if is_new:
                _leave(client())
            raise
        ahead = {}  # it took over what runs, and refuses only what would get a new process
    from infer_dev.api.client import caller_request  # noqa: PLC0415 - while the daemon starts
    from infer_dev.cli.patience import telling  # noqa: PLC0415 - as above
    from infer_dev.cli.progress import deadline_of  # noqa: PLC0415 - as above

    deadline = deadline_of(timeout_s)
    _prepare_logs(path, ahead.get("plan"))
    is_new, daemon = launch.wait() if is_new is None else is_new, client()
    body = {"check": check, "keep_going": keep_going, **caller_request(path, os.environ), **ahead}
    try:
        result = daemon.post("/up", body, when_slow=telling(daemon, "up", os.path.abspath(path)))
    except InferDevError:
        if is_new:
            _leave(daemon)
        raise
    tell_warnings(result["warnings"])
    if result["enabled"]:
        return _follow(path, daemon, result, wait=wait, deadline=deadline)
    print(f"{path}: master.enable is false: nothing is started")
    if is_new:
        _leave(daemon)
    return EXIT_OK


def _has_instances() -> bool:
    return bool(client().get("/status")["instances"])


def _follow(
    path: str, daemon: DaemonClient, result: Mapping[str, Any], *, wait: bool, deadline: float | None
) -> int:  # Any: JSON
    """Wait for what was set going; returns the exit status."""
    from infer_dev.cli.progress import wait_until_settled  # noqa: PLC0415 - imported by now

    if not result["refused"]:
        instances_are_up(path)
    if not result["waiting"]:
        print(f"{path}: no instance starts by itself, unless another one has its place", file=sys.stderr)
    if not wait:
        for name, why in result["refused"].items():
            tell_line("error", f"{name} is not started: {why}")
        return EXIT_FAILED if result["refused"] else EXIT_OK
    status = wait_until_settled(daemon, result["states"], after_id=result["last_id"], deadline=deadline)
    if result["attached"]:
        return _stay_with(daemon, result["attached"], after_id=result["last_id"]) or status
    return status


def tell_warnings(warnings: Sequence[str]) -> None:
    """Tell what a check warned of."""
    for one in warnings:
        tell_line("warning", one)


def tell_line(level: str, text: str) -> None:
    """One line on stderr, as compilers do it."""
    from infer_dev.host.printable import printable  # noqa: PLC0415 - where there is something to tell

    print(f"{level}: {printable(text)}", file=sys.stderr)


def _prepare_logs(path: str, plan: dict[str, object] | None) -> None:
    if other_user():
        from infer_dev.cli.account import give_log_folders, give_log_folders_of  # noqa: PLC0415 - for root only

        if plan is None:
            give_log_folders([path])
        else:
            give_log_folders_of(plan)


def _read_ahead(path: str, *, check: bool, keep_going: bool) -> dict[str, Any]:  # Any: JSON
    """What the daemon is told of a file: its plan, and what a check refuses. Empty where the daemon has to read it.

    Raises:
        InferDevError: the file cannot be used, or a check says that it cannot work.
    """
    import gc  # noqa: PLC0415 - only to start a daemon

    gc.disable()  # what is imported stays; to look for garbage in it takes an eighth of the time
    if other_user():
        from infer_dev.cli.account import reading_of_account  # noqa: PLC0415 - for root only

        read = reading_of_account(path, check=check)
    else:
        from infer_dev.check.ahead import read_ahead  # noqa: PLC0415 - pydantic

        read = read_ahead(path, os.environ, check=check)
    gc.enable()
    if read is None:
        return {}
    from infer_dev.check.verdict import verdict_from_json  # noqa: PLC0415 - imported by now

    verdict = verdict_from_json(read["findings"])
    if not keep_going:
        verdict.refuse(path)
    tell_warnings(verdict.warnings)
    refusals = verdict.refusals([spec["name"] for spec in read["plan"]["specs"]])
    refused = {name: {"cause": why.cause, "detail": why.detail} for name, why in refusals.items()}
    return {"plan": read["plan"], "check": False, "refused": refused}


def down(config: str | None = None) -> int:
    """Stop the instances of one file, or all and the daemon with them."""
    from infer_dev.cli.patience import telling  # noqa: PLC0415 - `up` has no use for it so early

    daemon = client()
    path = os.path.abspath(config) if config else None
    try:
        answer = daemon.post("/down", {"config": path}, when_slow=telling(daemon, "down", *([path] if path else [])))
    except UnavailableError:
        if daemon.is_alive():
            raise
        print("nothing is up", file=sys.stderr)
        return EXIT_OK
    if answer["left"]:
        _wait_for_end(answer["pid"])
    for name in answer["names"]:
        print(f"{name} stopped")
    return EXIT_OK


def _leave(daemon: DaemonClient) -> None:
    """Let a daemon go that was started for nothing, unless somebody else uses it by now."""
    answer = daemon.post("/down", {"unused": True})
    if answer["left"]:
        _wait_for_end(answer["pid"])


def _wait_for_end(pid: int) -> None:
    import select  # noqa: PLC0415 - only to wait

    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([fd], [], [], EXIT_WAIT_S)
    finally:
        os.close(fd)


def _stay_with(daemon: DaemonClient, names: list[str], *, after_id: int) -> int:
    """Print the logs of instances until they end. Ctrl-C stops them; a second one leaves them to the daemon."""
    import threading  # noqa: PLC0415 - only while attached

    from infer_dev.api.client import instance_target, status_target  # noqa: PLC0415 - as above
    from infer_dev.cli.progress import follow_states  # noqa: PLC0415 - as above

    latest = daemon.get(status_target(names))
    ending = {one["name"]: one["state"] for one in latest["instances"]}
    for name in names:
        threading.Thread(target=_print_log, args=(daemon, name), daemon=True).start()
    try:
        for name in names:
            print(f"{name} is attached: its log follows, Ctrl-C stops it", file=sys.stderr, flush=True)
        last = follow_states(daemon, ending, until=("stopped", "failed", "disabled"), after_id=after_id)
    except KeyboardInterrupt:
        for name in names:
            daemon.post(instance_target(name, "stop"))
        return EXIT_OK
    return EXIT_FAILED if "failed" in last.values() else EXIT_OK


def _print_log(daemon: DaemonClient, name: str) -> None:
    from infer_dev.cli.follow import follow_log  # noqa: PLC0415 - only while attached
    from infer_dev.cli.logs import print_pieces  # noqa: PLC0415 - only while attached

    try:
        print_pieces(follow_log(daemon, name, tail=0, tell=lambda _: None))
    except (InferDevError, OSError):
        return  # it cannot be read, as the main thread tells; or nobody reads any more
