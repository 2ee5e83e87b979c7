"""A verified switch as it comes about: its phases live, then its receipt."""

import time
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from infer_dev.dashboard.link import Link, understood
from infer_dev.dashboard.picture import Json
from infer_dev.errors import InferDevError
from infer_dev.host.printable import printable, printable_line

TICK_S = 0.2


class SwitchScreen(ModalScreen[None]):
    """Asks for the switch once it is shown. Closing it does not stop the switch."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "close")]

    def __init__(self, link: Link, name: str) -> None:
        super().__init__()
        self._link, self._name = link, name
        self._done: list[tuple[str, float]] = []
        self._phase, self._since = "", time.monotonic()
        self._from = ""
        self._end: Text | None = None

    def compose(self) -> ComposeResult:
        """One text."""
        with VerticalScroll(classes="dialog") as box:
            box.border_title, box.border_subtitle = f"switch to {self._name}", "Esc closes; the switch goes on"
            yield Static(id="switch-text")

    def on_mount(self) -> None:
        """Ask."""
        self.run_worker(self._run(), exclusive=True)
        self.set_interval(TICK_S, self._draw)
        self._draw()

    async def _run(self) -> None:
        try:
            async for event, data in self._link.events("/switch?stream=1", body={"model": self._name}):
                with understood("/switch"):
                    self.take(event, data)
            if self._end is None:
                self._finish(Text("the daemon has gone; the next one finishes the switch: see the events", "yellow"))
        except InferDevError as err:
            self._finish(_problem(err.message, err.hint))

    def tells(self, event: Json) -> bool:
        """Whether an event, as of `/events`, is one that this screen tells, too."""
        return event.get("kind") == "switch" and event.get("instance") == self._name

    def take(self, event: str, data: Json) -> None:
        """One event of the stream."""
        match event:
            case "begin":
                self._phase, self._since = str(data["phase"]), time.monotonic()
                self._from = str(data.get("from") or "")
            case "phase":
                self._done.append((str(data["phase"]), float(data["seconds"])))
                self._phase = ""
            case "receipt":
                self._finish(receipt_text(data))
            case "error":
                self._finish(_problem(str(data.get("detail", "")), str(data.get("hint", ""))))
        self._draw()

    def _finish(self, end: Text) -> None:
        self._end, self._phase = end, ""
        self.query_one(VerticalScroll).border_subtitle = "Esc closes"
        self._draw()

    def _draw(self) -> None:
        text = Text()
        if self._from:
            text.append(f"{self._from} → {self._name}\n", "bold")
        for phase, seconds in self._done:
            text.append("✓ ", "green").append(f"{phase:<10}").append(f"{seconds:6.1f}s\n", "dim")
        if self._phase:
            text.append("… ", "cyan").append(f"{self._phase:<10}", "bold")
            text.append(f"{time.monotonic() - self._since:6.1f}s\n", "dim")
        elif self._end is None:
            text.append("…\n", "cyan")
        if self._end is not None:
            text.append("\n").append_text(self._end)
        self.query_one("#switch-text", Static).update(text)


def receipt_text(receipt: Json) -> Text:
    """What a receipt says, for people."""
    if not receipt["ok"]:
        text = _problem(str(receipt["error"]), str(receipt.get("hint") or ""))
        for line in receipt.get("log_tail") or ():
            text.append(f"\n    {printable_line(str(line))}", "dim")
        return text
    if not receipt["changed"]:
        return Text(f"{receipt['to']} runs already: nothing was done", "green")
    said = f", it says {printable_line(repr(receipt['completion']))}" if receipt.get("completion") else ""
    return Text(f"{receipt['to']} serves after {receipt['seconds']:.1f}s{said}", "green")


def _problem(message: str, hint: str) -> Text:
    text = Text(printable(message), "bold red")
    return text.append(f"\n{printable(hint)}", "not bold default") if hint else text
