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
    rows = [row(one) for one in instances]
    for cells in rows:
        cells[-1] = cells[-1].rpartition("/")[2]  # a terminal is narrow; the end of a path tells most
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, header in enumerate(HEADERS):
        table.add_column(
            header,
            justify="right" if header in NUMBERS else "left",
            overflow="ellipsis",
            no_wrap=True,
            # Only the model may be cut short.
            min_width=None if header == "MODEL" else max(len(cells[index]) for cells in [HEADERS, *rows]),
        )
    for one, cells in zip(instances, rows, strict=True):
        texts = [Text(sanitized(cell, terminal=True)) for cell in cells]
        texts[1].stylize(STYLES.get(str(one["state"]), ""))
        table.add_row(*texts)
    return table


def print_table(instances: Sequence[Mapping[str, Any]]) -> None:
    """Print the table once. Any: JSON."""
    Console().print(status_table(instances))


def watch_table(fetch: Callable[[], Sequence[Mapping[str, Any]]], *, every_s: float) -> int:
    """Show the table again and again until interrupted. Any: JSON."""
    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(status_table(fetch()), refresh=True)
            time.sleep(every_s)
