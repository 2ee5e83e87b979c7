"""`infer-dev status`."""

from __future__ import annotations

import json
import sys
import time

from infer_dev.api.client import status_target
from infer_dev.cli.launch import answers_soon, boot_keeps, client
from infer_dev.cli.progress import failure_report
from infer_dev.cli.rows import HEADERS, row
from infer_dev.cli.text import columns, is_terminal
from infer_dev.errors import EXIT_FAILED, EXIT_OK, TimedOutError, UnavailableError
from infer_dev.host.printable import printable
from infer_dev.host.runtime.notes import boot_errors
from infer_dev.settings import runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WATCH_S = 1.0
SUCCESSOR_S = 3.0  # boot starts another daemon within one: a health check must not fail meanwhile
NO_DAEMON = dict.fromkeys(("pid", "version", "uptime_s", "config", "api"))


def status(*names: str, as_json: bool = False, watch: bool = False) -> int:
    """Show the instances; exit status 1 if one of those shown has failed. Nothing else changes it."""
    target = status_target(names)
    terminal = is_terminal(sys.stdout)
    if watch and terminal and not as_json:
        from infer_dev.cli.table import watch_table  # noqa: PLC0415 - rich, on a terminal only

        return watch_table(lambda: client().get(target)["instances"], every_s=WATCH_S)
    while True:
        errors = boot_errors(runtime_dir())
        if errors and not as_json:
            print(*map(printable, errors), sep="\n", file=sys.stderr)
        try:
            answer = _answer(target)
        except (UnavailableError, TimedOutError):
            if as_json:
                _print_json({"daemon": NO_DAEMON | {"boot_errors": errors}, "instances": []}, in_lines=watch)
            raise
        instances = answer["instances"]
        if as_json:
            answer["daemon"]["boot_errors"] = errors
            _print_json(answer, in_lines=watch)
        else:
            _print_table(answer, terminal=terminal)
        failed = [one for one in instances if one["state"] == "failed"]
        if not watch:
            if failed and not as_json:
                print(failure_report(failed), file=sys.stderr)
            return EXIT_FAILED if failed else EXIT_OK
        time.sleep(WATCH_S)


def _print_table(answer: dict[str, Any], *, terminal: bool) -> None:  # Any: JSON
    if note := answer["daemon"].get("api_fault"):  # a daemon of before tells none
        print(f"API: {printable(note)}", file=sys.stderr)
    if terminal:
        from infer_dev.cli.table import print_table  # noqa: PLC0415 - rich, on a terminal only

        print_table(answer["instances"])
    else:
        print(columns([HEADERS, *(row(one) for one in answer["instances"])]), flush=True)


def _answer(target: str) -> dict[str, Any]:  # Any: JSON
    """What the daemon says, or the one by which boot just replaces it."""
    try:
        return client().get(target)
    except UnavailableError:
        if not (boot_keeps(runtime_dir()) and answers_soon(SUCCESSOR_S)):
            raise
        return client().get(target)


def _print_json(answer: dict[str, Any], *, in_lines: bool) -> None:  # Any: JSON
    print(json.dumps(answer, ensure_ascii=False, indent=None if in_lines else 2), flush=True)
