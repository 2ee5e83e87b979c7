"""The log of the selected instance: follow, search, filter by level, wrap, jump to the last error.

Only what is visible is drawn, so that ten thousand lines a second cost no more than the reading of them.
"""

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input

from infer_dev.dashboard.lines import Level, Lines, level_of

STYLES = {
    Level.ALL: Style(dim=True),
    Level.INFO: Style(),
    Level.WARNING: Style(color="yellow"),
    Level.ERROR: Style(color="red", bold=True),
}
FOUND = Style(reverse=True)
MARKED = Style(bold=True, underline=True)
WORDS = {Level.ALL: "all", Level.INFO: "no debug", Level.WARNING: "warnings", Level.ERROR: "errors"}


class LogView(ScrollView, can_focus=True):
    """The rows of the log. Keys are those of textual's scrolling."""

    class Held(Message):
        """It no longer follows its end, or does again."""

    def __init__(self) -> None:
        super().__init__(id="log-view")
        self.lines = Lines()
        self.wanted = ""  # what is searched, in lower case
        self.is_following = True
        self.is_wrapped = False
        self.least = Level.ALL
        self.mark = -1  # the number of the line that was found last

    def add(self, text: str, *, anew: bool) -> None:
        """Take complete lines; `anew`: what was there before goes."""
        if anew:
            self.lines.clear()
            self.mark = -1
        gone = self.lines.add(text)
        if gone and not self.is_following:
            self.scroll_to(y=max(0, self.scroll_offset.y - gone), animate=False, force=True)
        self._lay_out()

    def rearrange(self) -> None:
        """After a change of width, level or wrapping."""
        self.lines.arrange(width=max(1, self._text_width()) if self.is_wrapped else 0, least=self.least)
        self._lay_out()

    def _text_width(self) -> int:
        return self.container_size.width - self.styles.scrollbar_size_vertical

    def _lay_out(self) -> None:
        rows = self.lines.rows
        widest = max((row.end - row.start for row in rows[-self.size.height * 2 :]), default=0)
        self.virtual_size = Size(0 if self.is_wrapped else widest, len(rows))
        if self.is_following:
            self.call_after_refresh(self._to_end)  # what the end is, is known once it is laid out
        self.refresh()

    def _to_end(self) -> None:
        if self.is_following:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True, immediate=True)

    def on_resize(self, _: Resize) -> None:
        self.rearrange()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling up stops following, reaching the end begins it again."""
        super().watch_scroll_y(old_value, new_value)
        was_following = self.is_following
        self.is_following = new_value >= self.max_scroll_y or (was_following and new_value >= old_value)
        if self.is_following != was_following:
            self.post_message(self.Held())

    def render_line(self, y: int) -> Strip:
        """One row of the screen."""
        left, top = self.scroll_offset
        rows, width = self.lines.rows, self.size.width
        if top + y >= len(rows):
            return Strip.blank(width, Style.null())
        row = rows[top + y]
        style = STYLES[level_of(self.lines.line(row.number))]
        if row.number == self.mark:
            style += MARKED
        text = self.lines.text(row)
        return Strip(self._segments(text, style)).crop_extend(left, left + width, Style.null())

    def _segments(self, text: str, style: Style) -> list[Segment]:
        if not self.wanted:
            return [Segment(text, style)]
        segments, at, low = [], 0, text.lower()
        while (hit := low.find(self.wanted, at)) >= 0:
            end = hit + len(self.wanted)
            segments += [Segment(text[at:hit], style), Segment(text[hit:end], style + FOUND)]
            at = end
        return [*segments, Segment(text[at:], style)]

    def go_to(self, index: int) -> None:
        """Mark a row's line and show it in the middle."""
        self.is_following = False
        self.mark = self.lines.rows[index].number
        self.scroll_to(y=max(0, index - self.size.height // 2), animate=False, force=True, immediate=True)
        self.refresh()

    def find(self, step: int) -> bool:
        """Go to the next line (1) or the one before (-1) that has what is searched; whether there is one."""
        rows = self.lines.rows
        marked = [index for index, row in enumerate(rows) if row.number == self.mark]
        start = (max(marked) + 1 if step > 0 else min(marked) - 1) if marked else len(rows) - 1
        first = 0 if step > 0 else len(rows) - 1  # where it goes on behind the end
        for at in (start, first):
            found = self.lines.find(lambda line: self.wanted in line.lower(), start=at, step=step)
            if self.wanted and found is not None:
                self.go_to(found)
                return True
        return False

    def last_error(self) -> bool:
        """Go to the last error; whether there is one."""
        found = self.lines.find(lambda line: level_of(line) == Level.ERROR, start=len(self.lines.rows) - 1, step=-1)
        if found is not None:
            self.go_to(found)
        return found is not None


class LogPanel(Vertical):
    """The log with its title and its search field."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "end_search", "end search", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="log")
        self.view = LogView()
        self.search = Input(placeholder="search the log; Enter: the one before, Esc: end", id="search", compact=True)
        self._name = ""

    def compose(self) -> ComposeResult:
        """The view, below it the search field, which is hidden."""
        self.search.display = False
        yield self.view
        yield self.search

    def show(self, name: str) -> None:
        """Begin with the log of another instance."""
        self._name = name
        self.view.add("", anew=True)
        self.view.is_following = True
        self.tell()

    def tell(self) -> None:
        """Say in the title what is shown."""
        view = self.view
        words = [WORDS[view.least]] if view.least else []
        words += ["wrapped"] if view.is_wrapped else []
        words += [f"“{view.wanted}”"] if view.wanted else []
        words += ["follows" if view.is_following else "held: f follows"]
        # Text, as a str would be read as markup: what is searched may have brackets.
        self.border_title = Text(" · ".join(["log", *([self._name] if self._name else []), *words]))

    def on_log_view_held(self, _: LogView.Held) -> None:
        """Say so."""
        self.tell()

    def begin_search(self) -> None:
        """Open the search field."""
        self.search.display = True
        self.search.focus()

    def action_end_search(self) -> None:
        """Close the search field and forget what was searched."""
        self.search.value = ""
        self.view.wanted = ""
        self.search.display = False
        self.view.focus()
        self.view.refresh()
        self.tell()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Mark what is typed."""
        self.view.wanted = event.value.lower()
        self.view.refresh()
        self.tell()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """Enter: go to the match before, and leave the field."""
        if self.view.find(-1):
            self.view.focus()
        elif self.view.wanted:
            problem = f"cannot find “{self.view.wanted}” in what is kept of the log"
            self.notify(problem, severity="warning", markup=False)
        self.tell()

    def next_level(self) -> None:
        """Show fewer lines; after errors only, all again."""
        self.view.least = Level((self.view.least + 1) % len(Level))
        self.view.rearrange()
        self.tell()

    def toggle_wrap(self) -> None:
        """Wrap long lines, or let them run out of the screen."""
        self.view.is_wrapped = not self.view.is_wrapped
        self.view.rearrange()
        self.tell()

    def toggle_follow(self) -> None:
        """Hold the log, or go on with its end."""
        self.view.is_following = not self.view.is_following
        self.view.rearrange()
        self.tell()
