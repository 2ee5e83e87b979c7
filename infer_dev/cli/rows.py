"""An instance as cells of the status table."""

from __future__ import annotations

from infer_dev.cli.text import duration, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HEADERS = ["NAME", "STATE", "PID", "PORT", "GPUS", "MEMORY", "UPTIME", "RESTARTS", "MODEL"]


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
    elif one["note"]:
        state += f" ({one['note']})"
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
