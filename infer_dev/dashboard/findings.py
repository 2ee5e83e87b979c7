"""What a check says of a file, as a page to read; it has room in 80 columns, and wraps as the screen does."""

import os
from collections.abc import Iterable, Iterator
from itertools import groupby, islice

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from infer_dev.check.finding import Finding, Level, of_several, told_once
from infer_dev.dashboard.picture import Json
from infer_dev.dashboard.words import size
from infer_dev.host.printable import printable_line

STYLES = {Level.ERROR: "bold red", Level.WARNING: "yellow", Level.NOTE: "cyan"}
INDENT = 2
HOST = -1  # the number of ordinary memory among the devices
MOST = 200  # findings, and lines about memory, on a page: 10,000 would take the screen seconds to draw
PARTS = ("weights", "cache", "compute")

Told = tuple[Finding, tuple[str, ...]]
"""A finding, and the names of all that it is about."""


def findings_of(answer: Json) -> list[Told]:
    """The findings of an answer of `/check`: each once, the worst first, those of an instance together.

    Raises:
        LookupError, TypeError, ValueError: it is made otherwise.
    """
    levels, told = list(Level), told_once(map(Finding.from_json, answer["findings"]))
    first = {owner: index for index, owner in reversed(list(enumerate(map(_owner, told))))}
    return sorted(told, key=lambda one: (levels.index(one[0].level), first[_owner(one)]))


def page_of(answer: Json) -> RenderableType:
    """All of an answer: how many of what, the findings, and who needs how much memory.

    Raises:
        LookupError, TypeError, ValueError: it is made otherwise.
    """
    told = findings_of(answer)
    parts: list[RenderableType] = [_summary(answer, told)]
    for (_, owner), group in groupby(told[:MOST], lambda one: (one[0].level, _owner(one))):
        parts += [Text(), Text(printable_line(owner), "bold")]
        for finding, names in group:
            parts += _shown(finding, names, owner)
    if len(told) > MOST:
        parts += [Text(), Text(f"and {len(told) - MOST} more: `infer-dev check` tells all", "bold")]
    if lines := list(islice(_memory(answer.get("memory") or {}), MOST)):
        parts += [Text(), Text("memory", "bold"), *(Padding(line, (0, 0, 0, INDENT)) for line in lines)]
    return Group(*parts)


def errors_about(answer: Json, names: Iterable[str]) -> list[Text]:
    """The errors of these instances, and of the file itself, a line each.

    Raises:
        LookupError, TypeError, ValueError: it is made otherwise.
    """
    wanted = {"", *names}
    return [
        Text(printable_line(f"{_line(finding)}{finding.place.key}: {finding.message}{of_several(of)}"))
        for finding, of in findings_of(answer)
        if finding.level is Level.ERROR and wanted.intersection(of)
    ]


def _owner(told: Told) -> str:
    names = told[1]
    if names == ("",):
        return "the file and this machine"
    return names[0] if len(names) == 1 else "several instances"


def _summary(answer: Json, told: list[Told]) -> Text:
    text = Text()
    for level in Level:
        if count := sum(one.level is level for one, _ in told):
            text.append(", " if text else "").append(f"{count} {level}{'s' if count != 1 else ''}", STYLES[level])
    if not text:
        text.append("nothing is wrong", "green")
    binary = answer.get("version") or answer.get("binary")
    return text.append(f"; held against llama-server {printable_line(str(binary))}" if binary else "")


def _shown(finding: Finding, names: tuple[str, ...], owner: str) -> Iterator[RenderableType]:
    """Level and place, and below them what is wrong and what to do."""
    head = Text(f"{finding.level}", STYLES[finding.level])
    key = finding.place.key.removeprefix(f"instance.{owner}.")
    head.append(printable_line(f" {_line(finding)}{key}"), "not bold default")
    yield Padding(head, (0, 0, 0, INDENT))
    what = Text(printable_line(finding.message + of_several(names)))
    if finding.hint:
        what.append(f"\n→ {printable_line(finding.hint)}", "dim")
    yield Padding(what, (0, 0, 0, 2 * INDENT))


def _line(finding: Finding) -> str:
    """Where it stands: the line, or what is not the file."""
    place = finding.place
    if place.line:
        return f"line {place.line}: "
    return "" if os.path.isabs(place.file) else f"{place.file}: "


def _memory(memory: Json) -> Iterator[Text]:
    for one in memory.get("instances") or ():
        for device in one["devices"]:
            use = device["use"]
            parts = [f"{part} {size(use[part])}" for part in PARTS]
            parts.append(f"other {size(use['output'] + use['driver'])}")
            free = device["free_bytes"]
            where = "RAM" if device["device"] == HOST else f"GPU {device['device']}"
            text = Text(f"{printable_line(str(one['name']))} on {where}: {size(device['total_bytes'])}")
            text.append(f" of {size(free)} free" if free > 0 else ", and nothing is free")
            yield text.append(f" ({', '.join(parts)})", "dim")
        context = f"{one['context_tokens']} tokens, {one['gpu_layers']} of {one['layers']} layers on a GPU"
        yield Text(f"{printable_line(str(one['name']))}: {context}")
