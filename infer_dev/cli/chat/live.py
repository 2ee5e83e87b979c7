"""An answer on a terminal, as Markdown that grows."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from infer_dev.chat import ContentDelta, ReasoningDelta, ToolCallDelta
from infer_dev.host.printable import printable, printable_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markdown_it.token import Token
    from rich.console import RenderableType

    from infer_dev.chat import ChatResponse
    from infer_dev.chat.blocking_client import BlockingChatStream

REDRAW_S = 0.1
REST = 3
"""How many times as long as a drawing took nothing is drawn after it: a block of 300 KB takes over a second."""
FENCES = ("```", "~~~")
SPARE_LINES = 2


def show_answer(console: Console, stream: BlockingChatStream) -> tuple[ChatResponse, bool]:
    """Show an answer while it comes; what has come, and whether Ctrl-C has stopped it.

    Blocks of Markdown that are complete are printed for good; only the last is drawn again and again, and of one that
    is taller than the terminal its end.
    """
    if not console.is_terminal or console.is_dumb_terminal:
        return _plain(console, stream)
    shown = Shown(console)
    is_stopped = False
    with Live(console=console, auto_refresh=False, transient=True) as live:
        try:
            for event in stream:
                shown.add(event)
                if shown.is_due():
                    shown.draw(live)
        except KeyboardInterrupt:
            stream.close()
            is_stopped = True
        finally:
            shown.finish(live)
    return stream.response, is_stopped


class Shown:
    """What of an answer is on the terminal; `clock` is in seconds."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._reasoning = ""
        self._text = ""  # of which nothing is printed for good
        self._call: int | None = None  # the tool call that is on its way
        self._due_at = 0.0

    def add(self, event: object) -> None:
        """Take an event."""
        match event:
            case ContentDelta(text):
                if self._reasoning:
                    self._print_reasoning()
                self._end_call()
                self._text += printable(text)
            case ReasoningDelta(text):
                self._end_call()
                self._print_text()  # what it thinks between two pieces of the answer stands between them
                self._reasoning += printable(text)
            case ToolCallDelta(index=index, name=name, arguments=arguments):
                if index != self._call:
                    self._end_call()
                    self._call = index
                    self._text += f"\n\n`{printable_line(name)}`\n\n```json\n"  # as it is: JSON is no Markdown
                self._text += printable(arguments)

    def is_due(self) -> bool:
        """Whether to draw again: not for each token of a fast model, and of a long block not all the time."""
        return self._clock() >= self._due_at

    def draw(self, live: Live) -> None:
        """Print what is complete, draw the rest."""
        begun = self._clock()
        complete, self._text = split_complete(self._text)
        if complete:
            self._console.print(markdown(complete))
        live.update(self._tail(), refresh=True)
        now = self._clock()
        self._due_at = now + max(REDRAW_S, (now - begun) * REST)

    def finish(self, live: Live) -> None:
        """Print what there is for good."""
        live.update(Text(), refresh=True)
        if self._reasoning:
            self._print_reasoning()
        self._print_text()

    def _end_call(self) -> None:
        if self._call is not None:
            self._text += "\n```\n\n"
        self._call = None

    def _print_text(self) -> None:
        if self._text.strip():
            self._console.print(markdown(self._text))
        self._text = ""

    def _print_reasoning(self) -> None:
        self._console.print(Text(self._reasoning.strip(), style="dim italic"))
        self._reasoning = ""

    def _tail(self) -> RenderableType:
        """The last lines, as many as the terminal has room for."""
        room = max(1, self._console.height - SPARE_LINES)
        shown = Text(self._reasoning, style="dim italic") if self._reasoning else markdown(self._text)
        lines = self._console.render_lines(shown, pad=False)[-room:]
        return Group(*(Text.assemble(*((part.text, part.style or "") for part in line)) for line in lines))


def markdown(text: str) -> Markdown:
    """Markdown whose entities (`&#8238;`) bring in no character that `printable` takes out."""
    made = Markdown(text)
    _clean(made.parsed)
    return made


def _clean(tokens: Sequence[Token]) -> None:
    for token in tokens:
        token.content = printable(token.content)
        _clean(token.children or ())


def split_complete(text: str) -> tuple[str, str]:
    """Markdown that no later text changes, and the rest: cut at the last empty line outside fenced code and lists."""
    fence = ""
    cut = place = 0
    for line in text.splitlines(keepends=True):
        place += len(line)
        start = line.strip()[:3]
        if fence:
            fence = "" if start == fence and not line.strip().strip(fence[0]) else fence
        elif start in FENCES:
            fence = start
        elif not start and line.endswith("\n"):
            cut = place
    return text[:cut], text[cut:]


def _plain(console: Console, stream: BlockingChatStream) -> tuple[ChatResponse, bool]:
    """For terminals that cannot move their cursor."""
    is_stopped = False
    try:
        for event in stream:
            if isinstance(event, ContentDelta):
                console.out(printable(event.text), end="", highlight=False)
    except KeyboardInterrupt:
        stream.close()
        is_stopped = True
    console.print()
    return stream.response, is_stopped
