"""The status table on a terminal, by rich."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infer_dev.cli.live import STYLES
from infer_dev.cli.status import HEADERS, row
from infer_dev.cli.text import sanitized

NUMBERS = ("PID", "PORT", "MEMORY", "UPTIME")


def status_table(instances: Sequence[Mapping[str, Any]]) -> Table:
    """The instances as a table. Any: JSON."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in HEADERS:
        is_model = header == "MODEL"
        table.add_column(
            header,
            justify="right" if header in NUMBERS else "left",
            overflow="ellipsis",
            no_wrap=True,
            ratio=1 if is_model else None,
            min_width=None if is_model else len(header),
        )
    for one in instances:
        cells = [Text(sanitized(cell, terminal=True)) for cell in row(one)]
        cells[1].stylize(STYLES.get(str(one["state"]), ""))
        table.add_row(*cells)
    return table


def print_table(instances: Sequence[Mapping[str, Any]]) -> None:
    """Print the table once."""
    Console().print(status_table(instances))


def watch_table(fetch: Callable[[], Sequence[Mapping[str, Any]]], *, every_s: float) -> int:
    """Show the table again and again until interrupted. Any: JSON."""
    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(status_table(fetch()), refresh=True)
            time.sleep(every_s)
