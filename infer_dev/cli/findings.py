"""The findings of a check on a terminal, by rich: a table an instance."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infer_dev.check.finding import Finding, Level, of_several, told_once
from infer_dev.cli.text import columns, sanitized

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from infer_dev.check.report import Report

STYLES = {Level.ERROR: "bold red", Level.WARNING: "yellow", Level.NOTE: "dim"}
GAP = 2
LEAST_WIDTH, USUAL_WIDTH = 24, 80  # cells; some terminals say that they have none
KEY_SHARE = 3  # the key's column gets at most one part in so many of the width


def print_report(report: Report, summary: str) -> None:
    """Print all of it, and `summary` as its last line."""
    console = Console(highlight=False)
    if console.width < LEAST_WIDTH:
        console = Console(highlight=False, width=USUAL_WIDTH)
    told = told_once(report.findings)
    told.sort(key=lambda one: len(one[1]) == 1 and one[1] != ("",))  # those of several first
    for title, findings in groupby(told, _title):
        console.print(Text(sanitized(title, terminal=True), style="bold"))
        console.print(findings_table(findings, width=console.width))
        console.print()
    if len(report.rows) > 1:
        rows = [[sanitized(cell, terminal=True) for cell in row] for row in report.rows]
        if max(map(len, (plain := columns(rows)).splitlines())) <= console.width:
            console.print(memory_table(rows))
        else:  # with less room rich makes columns of one letter
            console.print(Text(plain), soft_wrap=True)
        console.print()
    console.print(Text(summary))


def _title(told: tuple[Finding, tuple[str, ...]]) -> str:
    _, names = told
    if names == ("",):
        return "the file and this machine"
    return names[0] if len(names) == 1 else "several instances"


def findings_table(told: Iterable[tuple[Finding, tuple[str, ...]]], *, width: int) -> Table:
    """One group's findings: level, line, key, and what is wrong with what to do under it."""
    table = Table(box=None, show_header=False, padding=(0, GAP, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, width=2 + max(map(len, Level)))
    table.add_column(no_wrap=True, justify="right", min_width=4)
    table.add_column(overflow="fold", max_width=max(16, width // KEY_SHARE))
    table.add_column(overflow="fold", ratio=1)
    for one, names in told:
        what = Text(sanitized(one.message + of_several(names), terminal=True))
        if one.hint:
            what.append("\n→ " + sanitized(one.hint, terminal=True), style="cyan")
        key = one.place.key.removeprefix(f"instance.{one.instance}.")
        table.add_row(
            Text(f"  {one.level}", style=STYLES[one.level]),
            str(one.place.line or "-"),
            sanitized(key, terminal=True),
            what,
        )
    return table


def memory_table(rows: Sequence[Sequence[str]]) -> Table:
    """What needs how much, and where it goes; the headers first."""
    headers, *others = rows
    table = Table(box=None, header_style="bold", padding=(0, GAP, 0, 0), pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in others:
        table.add_row(*map(Text, row))
    return table
