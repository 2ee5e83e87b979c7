"""What happened: the latest few beside the rest, all of it on a screen of its own."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from infer_dev.dashboard.picture import Json
from infer_dev.host.printable import printable_line
from infer_dev.states import state_style

KEPT = 500
TIME_AT, TIME_END = 11, 19  # of an ISO time: the clock
TROUBLE = ("failed", "backoff", "degraded")
NOTHING = "nothing has happened yet"
PLAIN_WORDS = {"done": "", "told": ""}


def event_text(event: Json, *, with_log: bool = False) -> Text:
    """One event, in one line; with the log's last lines below it if asked for."""
    kind, name, new = event.get("kind", "transition"), str(event.get("instance", "")), str(event.get("new", ""))
    clock = str(event.get("time", ""))
    date = "" if not with_log else clock[: TIME_AT - 1] + " "
    text = Text(f"{date}{clock[TIME_AT:TIME_END]} ", style="dim", end="")
    text = Text.assemble(text, no_wrap=not with_log, overflow="fold" if with_log else "ellipsis")
    if kind == "transition":
        text.append(f"{printable_line(name)} ", "bold").append(printable_line(new), state_style(new))
        if new == "ready" and event.get("after_s") is not None:
            text.append(f" after {event['after_s']:.1f}s", "dim")
    else:
        is_bad = new in ("failed", "told")
        words = (kind, name, new if kind == "switch" else PLAIN_WORDS.get(new, new))
        text.append(printable_line(" ".join(word for word in words if word)), "bold red" if is_bad else "bold")
    why = ": ".join(str(event[key]) for key in ("cause", "detail") if event.get(key))
    if why:
        text.append(f" {printable_line(' '.join(why.split()))}")
    if with_log:
        for line in event.get("log_tail") or ():
            text.append(f"\n    {printable_line(str(line))}", "dim")
    return text


class Events(Widget):
    """The panel: the latest that have room, the newest at the bottom.

    Attributes:
        all: the latest KEPT events.
    """

    def __init__(self) -> None:
        super().__init__(id="events")
        self.border_title = "events"
        self.all: deque[Json] = deque(maxlen=KEPT)

    def show(self, events: Iterable[Json], *, anew: bool) -> None:
        """Take events; `anew`: in place of all that were there."""
        if anew:
            self.all.clear()
        self.all.extend(events)
        self.refresh()

    def render(self) -> Text:
        """The latest."""
        latest = list(self.all)[-max(1, self.size.height) :]
        if not latest:
            return Text(NOTHING, style="dim")
        drawn = [event_text(event) for event in latest]
        for text in drawn:
            text.truncate(max(1, self.size.width), overflow="ellipsis")
        return Text("\n", no_wrap=True).join(drawn)


class EventsScreen(ModalScreen[None]):
    """All events kept, with causes and log lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,e,q", "dismiss", "close"),
        Binding("end,G", "end", "end", show=False),
    ]

    def __init__(self, events: Sequence[Json]) -> None:
        super().__init__()
        self._drawn = deque((event_text(event, with_log=True) for event in events), maxlen=KEPT)

    def compose(self) -> ComposeResult:
        """One text that scrolls."""
        with VerticalScroll(classes="dialog tall") as scroll:
            scroll.border_title, scroll.border_subtitle = "events", "Esc closes"
            yield Static(id="event-list")

    def on_mount(self) -> None:
        """Begin at the newest."""
        self._draw()
        self.query_one(VerticalScroll).scroll_end(animate=False)

    def _draw(self) -> None:
        self.query_one("#event-list", Static).update(Text("\n").join(self._drawn) if self._drawn else NOTHING)

    def add(self, events: Sequence[Json], *, anew: bool) -> None:
        """Take what happens meanwhile; whoever reads earlier ones goes on reading. `anew`: in place of all."""
        if anew:
            self._drawn.clear()
        self._drawn.extend(event_text(event, with_log=True) for event in events)
        if not self.is_mounted:
            return
        scroll = self.query_one(VerticalScroll)
        is_at_end = scroll.scroll_offset.y >= scroll.max_scroll_y
        self._draw()
        if is_at_end:
            scroll.scroll_end(animate=False)

    def action_end(self) -> None:
        self.query_one(VerticalScroll).scroll_end(animate=False)
