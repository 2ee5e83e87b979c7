"""The machine: processors, memory, the container's limits, disks."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text
from textual.widget import Widget

from infer_dev.dashboard.picture import Json, Picture
from infer_dev.dashboard.words import bar, percent, size

LABEL = 5
BAR_MOST = 40
FULL = 0.9
PART_GAP = "  "
PATH_MOST = 18


def level_style(part: float) -> str:
    """The colour of a part of something that can run out."""
    return "red" if part >= FULL else "cyan"


class System(Widget):
    """The panel. A line each, or all in one or two where there is little room."""

    def __init__(self) -> None:
        super().__init__(id="system")
        self.border_title = "system"
        self.is_compact = False
        self._host: Json = {}
        self._container: Json = {}

    def show(self, picture: Picture) -> None:
        """Take what is known now."""
        if (picture.host, picture.container) != (self._host, self._container):
            self._host, self._container = picture.host, picture.container
            self.styles.height = 1 if self.is_compact else len(self._figures()) + 2
            self.refresh()

    def _figures(self) -> list[tuple[str, float | None, str]]:
        """Label, part in use, figures."""
        host, container = self._host, self._container
        found: list[tuple[str, float | None, str]] = []
        if host:
            load = host.get("load")
            shown = percent(host.get("cpu_utilisation")) + f" of {host.get('cpus')}"
            shown += f", load {load[0]:.1f}" if load else ""
            found.append(("CPU", host.get("cpu_utilisation"), shown))
            total, free = host.get("memory_total_bytes"), host.get("memory_available_bytes")
            if total and free is not None:
                found.append(("RAM", 1 - free / total, f"{size(total - free)}/{size(total)}"))
        if (most := container.get("memory_max_bytes")) and (now := container.get("memory_current_bytes")) is not None:
            found.append(("limit", now / most, f"{size(now)}/{size(most)}"))
        if cpus := container.get("cpus"):
            found.append(("limit", None, f"{cpus:g} CPUs"))
        disks = host.get("disks") or ()
        found += [_disk(one, named=len(disks) > 1) for one in disks]
        return found

    def render(self) -> Text:
        """Label, bar, figures."""
        figures = self._figures()
        if not figures:
            return Text("the machine is not told", style="dim")
        if self.is_compact:
            parts = [Text.assemble((f"{label} ", "dim"), (told, _alarm(part))) for label, part, told in figures]
            joined = Text(PART_GAP).join(parts)
            joined.no_wrap, joined.overflow = True, "ellipsis"
            return joined
        widest = max(len(told) for _, _, told in figures)
        room = max(0, min(BAR_MOST, self.size.width - widest - LABEL - 2))
        text = Text(no_wrap=True, overflow="ellipsis")
        for index, (label, part, told) in enumerate(figures):
            text.append("\n" if index else "").append(f"{label:<{LABEL}} ", "dim")
            drawn = Text(" " * room) if part is None else bar([(part, level_style(part))], room)
            text.append_text(drawn).append(f" {told}", _alarm(part))
        return text


def _alarm(part: float | None) -> str:
    return "bold red" if part is not None and part >= FULL else ""


def _disk(one: Mapping[str, Any], *, named: bool) -> tuple[str, float | None, str]:  # Any: JSON
    total, free = one["total_bytes"], one["free_bytes"]
    where = str((one.get("paths") or [""])[-1])
    shown = f" {where if len(where) <= PATH_MOST else '…' + where[1 - PATH_MOST :]}" if named else ""
    return "disk", 1 - free / total if total else None, f"{size(free)} free{shown}"
