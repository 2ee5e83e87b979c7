"""The live table of `up` on a terminal: each instance's state, seconds and last log line."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infer_dev.api.client import DaemonClient, status_target
from infer_dev.cli.text import duration, fitted, sanitized
from infer_dev.states import state_style

GAP = 2
REFRESH_S = 0.1


def watch_live(
    daemon: DaemonClient, names: Sequence[str], *, until: Collection[str], deadline: float | None
) -> dict[str, str]:
    """Show the instances until each is in one of the states `until` or time is up; returns their last states."""
    if not names:
        return {}
    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            instances = daemon.get(status_target(names, log_line=True))["instances"]
            live.update(progress_table(instances, width=console.width), refresh=True)
            last = {str(one["name"]): str(one["state"]) for one in instances}
            if all(state in until for state in last.values()):
                return last
            if deadline is not None and time.monotonic() >= deadline:
                return last
            time.sleep(REFRESH_S)


def progress_table(instances: Sequence[Mapping[str, Any]], *, width: int) -> Table:
    """One row an instance, in at most `width` cells. Any: JSON."""
    rows = []
    for one in instances:
        state = str(one["state"])
        seconds = one["ready_after_s"] if state == "ready" else one["state_s"]
        took = duration(seconds) if state in ("starting", "ready", "stopping", "backoff") else ""
        if state == "ready":
            about = f"http://{one['host']}:{one['port']}" if one["port"] else str(one["host"])
        elif one["cause"]:
            about = f"{one['cause']}: {one['detail']}"
        else:
            about = one["log_line"]
        rows.append((str(one["name"]), state, took, sanitized(about, terminal=True)))
    needed = [max(cell_len(cells[index]) for cells in rows) for index in range(4)]
    table = Table.grid(padding=(0, GAP))
    justify: tuple[JustifyMethod, ...] = ("left", "left", "right", "left")
    # The last log line is cut first, then the name; every width is given, or rich would drop whole columns.
    for side, column_width in zip(justify, fitted(needed, width - GAP * 3, ((3, 20), (0, 12))), strict=True):
        table.add_column(no_wrap=True, overflow="ellipsis", justify=side, width=column_width)
    for name, state, took, about in rows:
        table.add_row(Text(name, style="bold"), Text(state, style=state_style(state)), took, Text(about, style="dim"))
    return table
