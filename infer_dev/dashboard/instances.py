"""The instances as a table of which one is selected."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp, Resize
from textual.message import Message
from textual.widget import Widget

from infer_dev.dashboard.picture import Instance
from infer_dev.dashboard.rates import Load
from infer_dev.dashboard.words import duration, size
from infer_dev.states import state_style

HEADERS = ("NAME", "STATE", "PORT", "REQ", "TOK/S", "UP", "RST", "GPUS", "MEMORY", "MODEL")
NUMBERS = ("PORT", "REQ", "TOK/S", "UP", "RST", "MEMORY")
LEFT_OUT = ("MEMORY", "GPUS", "RST", "UP")  # where there is no room for MODEL_LEAST cells of the model, in this order
MODEL_LEAST = 14
NAME_MOST = 24
STATE_MOST = 30
GAP = 1
NO_LOAD = Load()


def cells(one: Instance, load: Load | None) -> dict[str, str]:
    """An instance under HEADERS."""
    state = one.state
    if one.state in ("failed", "backoff", "degraded") and one.cause:
        state += f" {one.cause}"
    if one.due_in_s is not None:
        state += f" {duration(one.due_in_s)}"
    elif one.note and one.state not in ("ready", "failed"):
        state += f" {one.note}"
    is_known = load is not None and one.state == "ready"
    load = load or NO_LOAD
    speed = load.tokens_per_s
    return {
        "NAME": one.name,
        "STATE": state,
        "PORT": "-" if one.port is None else str(one.port),
        "REQ": f"{load.running}{f'+{load.waiting}' if load.waiting else ''}" if is_known else "-",
        "TOK/S": "-" if speed is None or not is_known else f"{speed:.0f}",
        "UP": duration(one.uptime_s),
        "RST": str(one.restarts),
        "GPUS": one.gpu_ids or "-",
        "MEMORY": size(one.rss_bytes),
        "MODEL": one.model.rpartition("/")[2] or one.alias or "-",
    }


def widths_of(rows: Sequence[Mapping[str, str]], width: int) -> dict[str, int]:
    """The columns shown and how wide they are, in `width` cells; the model takes what is left."""
    needed = {name: max([len(name), *(cell_len(row[name]) for row in rows)]) for name in HEADERS}
    needed["NAME"] = min(needed["NAME"], NAME_MOST)
    needed["STATE"] = min(needed["STATE"], STATE_MOST, max(12, width * 2 // 5))
    shown = list(HEADERS)

    def left() -> int:
        return width - sum(needed[name] + GAP for name in shown if name != "MODEL")

    for name in LEFT_OUT:
        if left() >= min(MODEL_LEAST, needed["MODEL"]):
            break
        shown.remove(name)
    found = {name: needed[name] for name in shown}
    found["MODEL"] = max(0, left())
    return found


class Instances(Widget, can_focus=True):
    """The table. Arrows or a click select."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "select(-1)", "up", show=False),
        Binding("down,j", "select(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home,g", "select(-1000000)", "first", show=False),
        Binding("end,G", "select(1000000)", "last", show=False),
    ]

    class Selected(Message):
        """Another instance is selected, or none is."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self) -> None:
        super().__init__(id="instances")
        self.border_title = "instances"
        self.selected = ""
        self._instances: Sequence[Instance] = ()
        self._is_known = False  # whether anything has been told yet
        self._loads: Mapping[str, Load] = {}
        self._shown: tuple[object, ...] = ()

    def show(self, instances: Sequence[Instance], loads: Mapping[str, Load]) -> None:
        """Take what is known now; drawn only if it looks different."""
        self._instances, self._loads = instances, loads
        if not self._is_known:
            self._is_known = True
            self.refresh()
        names = [one.name for one in instances]
        if self.selected not in names:
            self.select(names[0] if names else "")
        shown = (*(tuple(cells(one, loads.get(one.name)).items()) for one in instances), self.selected)
        if shown != self._shown:
            self._shown = shown
            self.refresh()
        self._tell()

    def select(self, name: str) -> None:
        """Select an instance by its name."""
        if name != self.selected:
            self.selected = name
            self.post_message(self.Selected(name))
            self._tell()
            self.refresh()

    def _tell(self) -> None:
        """Say in the title which of how many is selected, where not all are seen."""
        names = [one.name for one in self._instances]
        is_cut = len(names) > self.size.height - 1 and self.selected in names
        where = f" · {names.index(self.selected) + 1} of {len(names)}" if is_cut else ""
        if f"instances{where}" != self.border_title:
            self.border_title = f"instances{where}"

    def action_select(self, step: int) -> None:
        """Select the one `step` rows further."""
        names = [one.name for one in self._instances]
        if names:
            at = names.index(self.selected) if self.selected in names else 0
            self.select(names[max(0, min(len(names) - 1, at + step))])

    def on_resize(self, _: Resize) -> None:
        self._tell()

    def action_page(self, step: int) -> None:
        """Select the one as many rows further as are shown."""
        self.action_select(step * max(1, self.size.height - 1))

    def on_click(self, event: Click) -> None:
        """Select what was clicked."""
        at = event.get_content_offset(self)
        index = self._first() + at.y - 1 if at is not None else -1
        if at is not None and at.y >= 1 and index < len(self._instances):
            self.select(self._instances[index].name)

    def on_mouse_scroll_down(self, _: MouseScrollDown) -> None:
        self.action_select(1)

    def on_mouse_scroll_up(self, _: MouseScrollUp) -> None:
        self.action_select(-1)

    def _first(self) -> int:
        """The first one shown where not all have room."""
        room = max(1, self.size.height - 1)
        at = next((index for index, one in enumerate(self._instances) if one.name == self.selected), 0)
        return max(0, min(at - room // 2, len(self._instances) - room))

    def render(self) -> Text:
        """The table, one row each; the selected one is marked by a sign, too, for want of colours."""
        width, height = self.size
        if not self._is_known:
            return Text("…", style="dim")
        if not self._instances:
            return Text("no instance is up: `infer-dev up FILE` starts some", style="dim")
        rows = [cells(one, self._loads.get(one.name)) for one in self._instances]
        columns = widths_of(rows, width - 2)
        text = Text(no_wrap=True, overflow="crop", end="")
        text.append("  " + _line(dict(zip(HEADERS, HEADERS, strict=True)), columns), "dim")
        first = self._first()
        for one, row in list(zip(self._instances, rows, strict=True))[first : first + max(1, height - 1)]:
            is_selected = one.name == self.selected
            text.append("\n")
            text.append("▸ " if is_selected else "  ", "bold")
            start = len(text)
            text.append(_line(row, columns), "reverse" if is_selected and self.has_focus else "")
            name = columns["NAME"]
            text.stylize("bold", start, start + name)
            text.stylize(state_style(one.state), start + name + GAP, start + name + GAP + columns["STATE"])
        return text


def _line(row: Mapping[str, str], columns: Mapping[str, int]) -> str:
    parts = []
    for name, width in columns.items():
        text = row[name]
        if cell_len(text) > width:
            text = set_cell_size(text, max(0, width - 1)) + "…" if width else ""
        pad = " " * (width - cell_len(text))
        parts.append(pad + text if name in NUMBERS else text + pad)
    return (" " * GAP).join(parts)
