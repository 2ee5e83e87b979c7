"""Text from logs, made safe and fit for a terminal."""

from __future__ import annotations

import os

from infer_dev.host.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal that can move its cursor; one that cannot gets plain lines, as a file does."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def sanitized(text: str, *, terminal: bool) -> str:
    """`text` without colours and with control characters shown instead of obeyed, if it goes to a terminal."""
    return printable(text) if terminal else text


def duration(seconds: float | None) -> str:
    """Seconds for people: 3.2s, 4m12s, 3h05m, 2d04h; "-" for None."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:  # noqa: PLR2004 - seconds in a minute
        return f"{seconds:.1f}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 1:
        return f"{minutes}m{whole % 60:02}s"
    return f"{hours}h{minutes % 60:02}m" if days < 1 else f"{days}d{hours % 24:02}h"


def size(count: int | None) -> str:
    """Bytes for people, in powers of 1024; "-" for None."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - the step from unit to unit
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def fitted(widths: Sequence[int], available: int, floors: Sequence[tuple[int, int]]) -> list[int]:
    """Column widths that fit into `available` cells: taken from the columns in `floors`, one after another.

    Args:
        widths: what each column would need, in cells.
        available: what all may have together, without the gaps between them.
        floors: column index and the width below which it is not cut at that turn.
    """
    fit = list(widths)
    for index, floor in floors:
        excess = sum(fit) - available
        if excess <= 0:
            break
        fit[index] = max(min(floor, fit[index]), fit[index] - excess)
    return fit


def columns(rows: list[list[str]]) -> str:
    """Rows as aligned columns, two spaces apart."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
