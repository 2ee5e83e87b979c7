"""`infer-dev status`."""

from __future__ import annotations

import json
import sys
import time

from infer_dev.api.client import status_target
from infer_dev.cli.launch import client
from infer_dev.cli.progress import failure_report
from infer_dev.cli.text import columns, duration, is_terminal, size
from infer_dev.errors import EXIT_FAILED, EXIT_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


WATCH_S = 1.0
HEADERS = ["NAME", "STATE", "PID", "PORT", "GPUS", "MEMORY", "UPTIME", "RESTARTS", "MODEL"]


def status(*names: str, as_json: bool = False, watch: bool = False) -> int:
    """Show the instances; exit status 1 if one of those shown has failed."""
    daemon = client()
    target = status_target(names)
    terminal = is_terminal(sys.stdout)
    if watch and terminal and not as_json:
        from infer_dev.cli.table import watch_table  # noqa: PLC0415 - rich, on a terminal only

        return watch_table(lambda: daemon.get(target)["instances"], every_s=WATCH_S)
    while True:
        answer = daemon.get(target)
        instances = answer["instances"]
        if as_json:
            print(json.dumps(answer, ensure_ascii=False, indent=None if watch else 2), flush=True)
        elif terminal:
            from infer_dev.cli.table import print_table  # noqa: PLC0415 - rich, on a terminal only

            print_table(instances)
        else:
            print(columns([HEADERS, *(row(one) for one in instances)]), flush=True)
        failed = [one for one in instances if one["state"] == "failed"]
        if not watch:
            if failed and not as_json:
                print(failure_report(failed), file=sys.stderr)
            return EXIT_FAILED if failed else EXIT_OK
        time.sleep(WATCH_S)


def row(one: Mapping[str, Any]) -> list[str]:
    """An instance as cells under HEADERS. Any: JSON."""
    restarts = str(one["restarts"])
    if one["cause"] and one["state"] != "failed":
        restarts += f" ({one['cause']})"
    state = str(one["state"])
    if one["state"] == "failed":
        state += f" ({one['cause']})"
    elif one["due_in_s"] is not None:
        state += f" ({duration(one['due_in_s'])})"
    return [
        str(one["name"]),
        state,
        _or_dash(one["pid"]),
        _or_dash(one["port"]),
        _or_dash(one["gpu_ids"]),
        size(one["rss_bytes"]),
        duration(one["uptime_s"]),
        restarts,
        _or_dash(one["model"]),
    ]


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


__all__: Sequence[str] = ("HEADERS", "row", "status")
