"""Questions before what cannot be undone, and texts that are only read."""

from typing import ClassVar

from rich.console import RenderableType
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Button, Static

HEIGHT = 0.9  # of the screen: as high as a dialog may be (app.tcss)
ROWS_OF_THE_REST = 6  # borders, the question, the buttons, empty lines


class Question(ModalScreen[bool]):
    """Yes or no; no is what Enter finds, so that nothing happens by a slip."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
        Binding("left,right", "app.focus_next", show=False),
        Binding("up,k", "scroll('up')", show=False),
        Binding("down,j", "scroll('down')", show=False),
        Binding("pageup", "scroll('page_up')", show=False),
        Binding("pagedown", "scroll('page_down')", show=False),
        Binding("home", "scroll('home')", show=False),
        Binding("end", "scroll('end')", show=False),
    ]

    def __init__(self, question: str, *, yes: str, about: Text | str = "", is_early: bool = False) -> None:
        """`is_early`: it cannot be answered by yes before `change` has told what it is about."""
        super().__init__()
        self._question, self._yes, self._about, self._is_early = question, yes, about, is_early

    def compose(self) -> ComposeResult:
        """Question, details, two buttons."""
        with Vertical(classes="dialog"):
            yield Static(Text(self._question, style="bold"), id="question")
            if self._about:
                with VerticalScroll(id="about", can_focus=False):
                    yield Static(self._about, id="about-text")
            with Horizontal(classes="buttons"):
                yield Button("No (n)", id="no", compact=True)
                yield Button(f"{self._yes} (y)", id="yes", compact=True, disabled=self._is_early)

    def on_mount(self) -> None:
        """Enter says no."""
        self.query_one("#no").focus()

    def on_resize(self, event: Resize) -> None:
        """Leave room for the buttons, however long the details are."""
        for about in self.query("#about"):
            about.styles.max_height = max(1, int(event.size.height * HEIGHT) - ROWS_OF_THE_REST)
        self.call_after_refresh(self._tell)

    def _tell(self) -> None:
        """Say that there is more than is seen."""
        is_more = any(about.max_scroll_y > 0 for about in self.query("#about"))
        self.query_one(".dialog").border_subtitle = "↑ ↓ scroll" if is_more else ""

    def action_scroll(self, where: str) -> None:
        """Scroll the details, whatever has the focus."""
        for about in self.query("#about"):
            getattr(about, f"scroll_{where}")(animate=False)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """A click or Enter."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        if not (answer and self._is_early):
            self.dismiss(answer)

    def change(self, about: Text) -> None:
        """Tell what it is about; from now on yes is an answer. Nothing if it has been answered."""
        if self.is_running:
            self._is_early = False
            self.query_one("#about-text", Static).update(about)
            self.query_one("#yes").disabled = False
            self.call_after_refresh(self._tell)


class Reading(ModalScreen[None]):
    """A text to read."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,question_mark", "dismiss", "close"),
        Binding("k", "scroll('up')", show=False),
        Binding("j", "scroll('down')", show=False),
    ]

    def __init__(self, title: str, text: RenderableType) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        """The text, which scrolls if it is long."""
        with VerticalScroll(classes="dialog") as scroll:
            scroll.border_title, scroll.border_subtitle = Text(self._title), "Esc closes"  # a path is no markup
            yield Static(self._text, id="reading")

    def on_resize(self) -> None:
        """There may be more than is seen now."""
        self.call_after_refresh(self._tell)

    def _tell(self) -> None:
        for box in self.query(VerticalScroll):
            box.border_subtitle = "↑ ↓ scroll · Esc closes" if box.max_scroll_y > 0 else "Esc closes"

    def action_scroll(self, where: str) -> None:
        """As the arrows do."""
        for box in self.query(VerticalScroll):
            getattr(box, f"scroll_{where}")(animate=False)

    def change(self, text: RenderableType) -> None:
        """Another text in the place of the one shown. Nothing if it has been closed."""
        if self.is_running:
            self.query_one("#reading", Static).update(text)
            self.call_after_refresh(self._tell)
