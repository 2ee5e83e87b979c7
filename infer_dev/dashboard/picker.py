"""The model picker: type a few letters, Enter switches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from infer_dev.dashboard.fuzzy import MISS, score
from infer_dev.states import state_style

GAP = 2
LEAST = 10  # cells of a column that is cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One line of the list.

    Attributes:
        id: what is returned if it is chosen.
        cells: what stands in the columns; the first is the name.
        state: an instance's state, whose colour the second cell gets; "".
        about: told below the list while it is selected.
        search: what is searched.
    """

    id: str
    cells: Sequence[str]
    state: str = ""
    about: str = ""
    search: str = ""


class Picker(ModalScreen[str | None]):
    """A list with fuzzy search; answers with the id of what was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close"),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("pageup", "move(-10)", show=False, priority=True),
        Binding("pagedown", "move(10)", show=False, priority=True),
    ]

    def __init__(
        self, title: str, headers: Sequence[str], choices: Sequence[Choice], *, does: str, note: str = "nothing"
    ) -> None:
        """`does` is what Enter does, in one word; `note` is told where there are no choices."""
        super().__init__()
        self._title, self._headers, self._choices, self._does, self._note = title, headers, choices, does, note
        self._shown: list[Choice] = []

    def fill(self, choices: Sequence[Choice], *, note: str = "nothing") -> None:
        """Other choices; nothing if it has been closed."""
        if self.is_running:
            self._choices, self._note, self._shown = choices, note, []
            self._list(self.query_one(Input).value)

    def compose(self) -> ComposeResult:
        """Search field, headers, list, and what is known of the selected one."""
        with Vertical(classes="dialog tall") as box:
            box.border_title = Text(self._title)  # a str would be read as markup: it may have a path in it
            box.border_subtitle = f"Enter {self._does} · Esc closes"
            yield Input(placeholder="type to search", id="pick-search", compact=True)
            yield Static(id="pick-headers")
            yield OptionList(id="pick-list", compact=True)
            yield Static(id="pick-about")

    def on_mount(self) -> None:
        """All of it, to begin with."""
        self.query_one(OptionList).can_focus = False
        self.call_after_refresh(self._list, "")

    def on_resize(self) -> None:
        """Other widths."""
        self.call_after_refresh(self._list, self.query_one(Input).value, keep=True)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Fewer of them, the best first."""
        self._list(event.value)

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """Enter."""
        at = self.query_one(OptionList).highlighted
        if at is not None:
            self.dismiss(self._shown[at].id)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click."""
        self.dismiss(self._choice(event).id)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Tell about it."""
        self.query_one("#pick-about", Static).update(Text(self._choice(event).about, style="dim"))

    def _choice(self, event: OptionList.OptionMessage) -> Choice:
        """What an event is about; its index is that of a list which may have been replaced since it was sent."""
        return self._choices[int(event.option_id or 0)]

    def action_move(self, by: int) -> None:
        """Select another one."""
        listed = self.query_one(OptionList)
        if self._shown:
            listed.highlighted = max(0, min(len(self._shown) - 1, (listed.highlighted or 0) + by))

    def _list(self, wanted: str, *, keep: bool = False) -> None:
        """List what has `wanted` in it; `keep`: what is selected stays so."""
        scored = [(score(wanted, one.search or " ".join(one.cells)), at) for at, one in enumerate(self._choices)]
        found = [pair for pair in scored if pair[0] != MISS]
        if wanted:
            found.sort(key=lambda pair: -pair[0])
        listed = self.query_one(OptionList)
        selected = self._shown[listed.highlighted] if keep and listed.highlighted is not None else None
        self._shown = [self._choices[at] for _, at in found]
        widths = self._widths(max(20, listed.size.width - 3))
        listed.clear_options()
        listed.add_options([Option(_row(self._choices[at], widths), id=str(at)) for _, at in found])
        at = self._shown.index(selected) if selected in self._shown else 0
        listed.highlighted = at if self._shown else None
        headers = _joined(self._headers, widths)
        self.query_one("#pick-headers", Static).update(Text(headers, style="dim", no_wrap=True, overflow="crop"))
        if not self._shown:
            told = f"nothing has “{wanted}” in it" if wanted and self._choices else self._note
            self.query_one("#pick-about", Static).update(Text(told))

    def _widths(self, width: int) -> list[int]:
        """The last column is cut, then left out, then the one before it; what is too long after that is the first."""
        rows = [self._headers, *(one.cells for one in self._choices)]
        widths = [max(cell_len(row[index]) for row in rows) for index in range(len(self._headers))]
        while len(widths) > 1:
            excess = sum(widths) + GAP * (len(widths) - 1) - width
            widths[-1] -= max(0, min(excess, widths[-1] - LEAST))
            if sum(widths) + GAP * (len(widths) - 1) <= width:
                break
            widths.pop()
        widths[0] = min(widths[0], width)
        return widths


def _row(one: Choice, widths: Sequence[int]) -> Text:
    text = Text(_joined(one.cells, widths), no_wrap=True, overflow="ellipsis")
    text.stylize("bold", 0, widths[0])
    if one.state and len(widths) > 1:  # a name that is long may leave no room for more
        text.stylize(state_style(one.state), widths[0] + GAP, widths[0] + GAP + widths[1])
    return text


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [
        set_cell_size(cell, width) if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…"
        for cell, width in zip(cells, widths, strict=False)
    ]
    return (" " * GAP).join(fitted)
