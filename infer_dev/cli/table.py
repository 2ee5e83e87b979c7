"""The status table on a terminal, by rich."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infer_dev.cli.rows import HEADERS, row
from infer_dev.cli.text import fitted, sanitized
from infer_dev.states import state_style

NUMBERS = ("PID", "PORT", "MEMORY", "UPTIME")
GAP = 2
CUT_TO = (("MODEL", 24), ("GPUS", 4), ("RESTARTS", 8), ("NAME", 10), ("MODEL", 5), ("STATE", 8))
"""What is cut where the terminal is too narrow, in this order, and how far."""


def status_table(instances: Sequence[Mapping[str, Any]], *, width: int) -> Table:
    """The instances as a table of at most `width` cells. Any: JSON."""
    rows = [[sanitized(cell, terminal=True) for cell in row(one)] for one in instances]
    for cells in rows:
        cells[-1] = cells[-1].rpartition("/")[2]  # a terminal is narrow; the end of a path tells most
    needed = [max(cell_len(cells[index]) for cells in [HEADERS, *rows]) for index in range(len(HEADERS))]
    floors = [(HEADERS.index(header), floor) for header, floor in CUT_TO]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    widths = fitted(needed, width - GAP * (len(HEADERS) - 1), floors)
    for header, column_width in zip(HEADERS, widths, strict=True):
        # Every width is given: of what does not fit, rich would drop whole columns.
        justify: JustifyMethod = "right" if header in NUMBERS else "left"
        table.add_column(header, justify=justify, overflow="ellipsis", no_wrap=True, width=column_width)
    for one, cells in zip(instances, rows, strict=True):
        texts = [Text(cell) for cell in cells]
        texts[1].stylize(state_style(str(one["state"])))
        table.add_row(*texts)
    return table


def print_table(instances: Sequence[Mapping[str, Any]]) -> None:
    """Print the table once. Any: JSON."""
    console = Console()
    console.print(status_table(instances, width=console.width))


def watch_table(fetch: Callable[[], Sequence[Mapping[str, Any]]], *, every_s: float) -> int:
    """Show the table again and again until interrupted. Any: JSON."""
    console = Console()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(status_table(fetch(), width=console.width), refresh=True)
            time.sleep(every_s)
