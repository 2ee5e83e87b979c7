"""The screen: what is where, what comes from the feed, what a key does."""

import time
from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.events import Resize
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Static

from infer_dev.dashboard import feed as told
from infer_dev.dashboard.acts import Acts, PlanLines, ending, files_of
from infer_dev.dashboard.alarms import SHOWN_S, Alarms
from infer_dev.dashboard.dialog import Question, Reading
from infer_dev.dashboard.events import Events, EventsScreen
from infer_dev.dashboard.feed import Feed
from infer_dev.dashboard.gpus import GPU_ROWS, Gpus
from infer_dev.dashboard.help import help_text
from infer_dev.dashboard.instances import Instances
from infer_dev.dashboard.link import Link
from infer_dev.dashboard.log import LogPanel
from infer_dev.dashboard.models import HEADERS
from infer_dev.dashboard.picker import Picker
from infer_dev.dashboard.picture import Instance, Json, Picture
from infer_dev.dashboard.signals import end_by_signals
from infer_dev.dashboard.switch import SwitchScreen
from infer_dev.dashboard.system import System
from infer_dev.dashboard.words import duration
from infer_dev.errors import InferDevError
from infer_dev.host.printable import printable, printable_line
from infer_dev.states import RUNNING, state_style

if TYPE_CHECKING:
    from infer_dev.dashboard.rates import Load

WIDE, HUGE = 110, 180  # columns from which there is a second one, and from which it is broader
TALL_ROWS = 40  # from which the GPUs have three lines each where there is one column
LOW_ROWS = 16  # below, only instances and log have room
SHARE = 0.4  # of the height that the instances may take, and GPUs of GPU_ROWS lines each
ASKING, CHECKING = "asking the daemon …", "checking …"
STOPPABLE = (*RUNNING, "backoff")


class Dashboard(App[None]):
    """The application. All it knows comes from the feed; all it does goes through the acts."""

    CSS_PATH = "app.tcss"
    TITLE = "infer-dev"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "models", "model"),
        Binding("s", "start_stop", "start/stop"),
        Binding("r", "restart", "restart"),
        Binding("l", "reload", "reload"),
        Binding("c", "check", "check"),
        Binding("slash", "search", "search", key_display="/"),
        Binding("e", "events", "events"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("escape", "clear", show=False),
        Binding("n", "find(1)", "next match", show=False),
        Binding("N", "find(-1)", "match before", show=False),
        Binding("x", "last_error", "last error", show=False),
        Binding("v", "level", "filter the log", show=False),
        Binding("w", "wrap", "wrap the log", show=False),
        Binding("f", "follow", "follow the log", show=False),
    ]

    def __init__(self, link: Link, plan_lines: PlanLines, *, status_s: float = told.STATUS_S) -> None:
        """`status_s`: seconds between two looks; `plan_lines`: see `Acts`."""
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._link, self._acts = link, Acts(link, plan_lines)
        self._feed = Feed(link, self._hear, status_s=status_s)
        self.picture: Picture | None = None
        self._loads: Mapping[str, Load] = {}
        self._lost: InferDevError | None = None
        self._lost_since = 0.0
        self._logged = ""
        self._alarms = Alarms()
        self.instances, self.log_panel = Instances(), LogPanel()
        self.gpus, self.system, self.events = Gpus(), System(), Events()
        self.head = Static(id="head")

    def compose(self) -> ComposeResult:
        """One column, or two where there is room (see `on_resize`)."""
        yield self.head
        with Container(id="body"):
            with Vertical(id="left"):
                yield self.instances
                yield self.log_panel
            with Vertical(id="right"):
                yield self.gpus
                yield self.system
                yield self.events
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to listen."""
        end_by_signals(self)
        self._draw_head()
        self.instances.focus()
        self.run_worker(self._feed.run(), group="feed")

    def on_resize(self, event: Resize) -> None:
        """Lay out anew."""
        self._lay_out(event.size.width, event.size.height)

    def _lay_out(self, width: int, height: int) -> None:
        is_wide = width >= WIDE
        self.set_class(is_wide, "-wide")
        self.set_class(not is_wide, "-narrow")
        self.set_class(width >= HUGE, "-huge")
        gpus = len(self.picture.gpus) if self.picture else 0
        is_crowded = gpus * GPU_ROWS > height * SHARE
        self.gpus.is_compact = is_crowded or (not is_wide and height < TALL_ROWS)
        self.set_class(height < LOW_ROWS, "-low")
        self.gpus.is_framed = is_wide
        self.system.is_compact = not is_wide
        count = len(self.picture.instances) if self.picture else 1
        self.instances.styles.height = 3 + max(1, min(count, int(height * SHARE) - 3))
        if self.picture:
            self._draw(self.picture)

    def _hear(self, message: Message) -> None:
        self.post_message(message)

    # What the feed tells

    def on_seen(self, message: told.Seen) -> None:
        """How things are."""
        if self._lost is not None:
            self._lost = None
            self._say("the daemon answers again")
        before, self.picture = self.picture, message.picture
        if before is None or _counts(before) != _counts(message.picture):
            self._lay_out(self.size.width, self.size.height)
        else:
            self._draw(message.picture)

    def _draw(self, picture: Picture) -> None:
        self.instances.show(picture.instances, self._loads)
        self.gpus.show(picture.gpus, picture.gpus_note, [one.name for one in picture.instances])
        self.system.show(picture)
        self._draw_head()

    def on_lost(self, message: told.Lost) -> None:
        """The daemon does not answer."""
        if self._lost is None:
            self._lost_since = time.monotonic()
        self._lost = message.error
        self._draw_head()

    def on_happened(self, message: told.Happened) -> None:
        """Events."""
        self.events.show(message.events, anew=message.is_past)
        for screen in self.screen_stack:
            if isinstance(screen, EventsScreen):
                screen.add(message.events, anew=message.is_past)
        for event in message.events if not message.is_past else ():
            self._alarm(event)

    def _alarm(self, event: Json) -> None:
        """A failure on top of everything, unless it is being read."""
        if any(isinstance(screen, SwitchScreen) and screen.tells(event) for screen in self.screen_stack):
            return
        if words := self._alarms.words(event):
            self._say(words, severity="error")

    def on_loaded(self, message: told.Loaded) -> None:
        """How busy they are."""
        self._loads = message.loads
        if self.picture:
            self.instances.show(self.picture.instances, self._loads)

    def on_logged(self, message: told.Logged) -> None:
        """More of the log."""
        if message.name == self._logged:
            self.log_panel.view.add(message.text, anew=message.is_first)

    def on_instances_selected(self, message: Instances.Selected) -> None:
        """Show the log of another one."""
        self._logged = message.name
        self.log_panel.show(message.name)
        self.workers.cancel_group(self, "log")
        if message.name:
            self.run_worker(self._feed.follow_log(message.name), group="log", exclusive=True)

    def _draw_head(self) -> None:
        self.head.set_class(self._lost is not None, "-lost")
        if self._lost is not None:
            since = duration(time.monotonic() - self._lost_since)
            words = f"gone for {since}, trying again: {self._lost.message}"
            if self.picture is None:  # it never answered: most likely it is asked in a wrong way
                words = f"trying again: {self._lost.message}" + (f"; {self._lost.hint}" if self._lost.hint else "")
            self.head.update(Text(printable_line(words), no_wrap=True, overflow="ellipsis"))
            return
        text = Text("infer-dev ", "bold", no_wrap=True, overflow="ellipsis")
        picture = self.picture
        if picture is None:
            self.head.update(text.append("…", "not bold"))
            return
        states: dict[str, int] = {}
        for one in picture.instances:
            states[one.state] = states.get(one.state, 0) + 1
        for state, count in states.items():
            text.append(f" {count} {state}", f"not bold {state_style(state)}")
        current = self._current()
        if picture.switch and "phase" in picture.switch:
            to, phase = str(picture.switch.get("to")), str(picture.switch["phase"])
            text.append(f"  switch to {printable_line(to)}: {printable_line(phase)}", "cyan")
        elif current is not None and current.trouble and current.state != "ready":
            text.append(f"  {current.name}: {current.trouble}", "red")
        else:
            text.append(f"  {self._link.place.shown}", "not bold dim")
        self.head.update(text)

    # What a key does

    def _current(self) -> Instance | None:
        return self.picture.find(self.instances.selected) if self.picture else None

    def _say(self, text: str, *, severity: str = "information") -> None:
        level: Any = severity  # Any: textual's Literal
        self.notify(printable(text), severity=level, timeout=SHOWN_S, markup=False)

    def _do(self, work: Coroutine[Any, Any, None], screen: Screen[Any] | None = None) -> None:
        """Do something that asks the API, beside everything else; what goes wrong is told.

        With `screen` it is only for that one: it ends when that is closed.
        """

        async def told_if_it_fails() -> None:
            try:
                await work
            except InferDevError as err:
                self._say(f"{err.message}\n{err.hint}".strip(), severity="error")

        (screen or self).run_worker(told_if_it_fails(), group="acts")

    async def _act(self, name: str, action: str) -> None:
        self._say(await self._acts.act(name, action))
        self._feed.look_now()

    def _ask(self, one: Instance, action: str) -> None:
        def answered(answer: bool | None) -> None:
            if answer:
                self._do(self._act(one.name, action))

        question = Question(f"{action.capitalize()} {one.name}?", yes=action.capitalize(), about=ending(one, action))
        self.push_screen(question, answered)

    def action_start_stop(self) -> None:
        """Start what rests, stop what runs."""
        one = self._current()
        if one is None:
            return
        if one.state in STOPPABLE:
            self._ask(one, "stop")
        else:
            self._do(self._act(one.name, "start"))

    def action_restart(self) -> None:
        """Restart it."""
        if (one := self._current()) is not None:
            if one.state in RUNNING:
                self._ask(one, "restart")
            else:
                self._do(self._act(one.name, "restart"))

    def action_models(self) -> None:
        """Pick a model."""
        picker = Picker("models", HEADERS, (), does="switches", note=ASKING)
        self._do(self._fill(picker, self.push_screen(picker, self._switch)))

    async def _fill(self, picker: Picker, mounted: Awaitable[None]) -> None:
        """List the models on a picker that is shown at once: keys that follow are meant for it."""
        await mounted
        try:
            choices = await self._acts.models(self.picture or Picture(instances=()))
        except InferDevError as err:
            picker.fill((), note=printable(f"{err.message}\n{err.hint}".strip()))
        else:
            picker.fill(choices)

    def _switch(self, name: str | None) -> None:
        if name is not None:
            self.push_screen(SwitchScreen(self._link, name))
            self.instances.select(name)

    def action_reload(self) -> None:
        """Show the plan, then ask."""
        if self.picture is None:
            return
        if not files_of(self.picture):
            self._say("no file is up: there is nothing to reload")
            return

        def answered(answer: bool | None) -> None:
            if answer:
                self._do(self._reload())

        question = Question("Reload what is up?", yes="Reload", about=Text(ASKING), is_early=True)
        mounted = self.push_screen(question, answered)
        self._do(self._plan(self.picture, question, mounted), question)

    async def _plan(self, picture: Picture, question: Question, mounted: Awaitable[None]) -> None:
        """Put the plan into a question that is shown at once, so that no key meant for something else answers it.

        It need not be put off until a check has been made: the reload checks, too, before it changes anything.
        """
        await mounted
        outlook = await self._acts.plan(picture)
        if not outlook.starting:
            question.change(outlook.text)
            return
        question.change(Text.assemble((CHECKING, "dim"), "\n", outlook.text))
        errors = await self._acts.errors(outlook) or Text("the check finds no error", "dim")
        question.change(Text.assemble(errors, "\n", outlook.text))

    async def _reload(self) -> None:
        self._say(await self._acts.reload())
        self._feed.look_now()

    def action_check(self) -> None:
        """Check the file of the selected one."""
        if (one := self._current()) is not None:
            page = Reading(f"check of {printable_line(one.source)}", CHECKING)
            self._do(self._check(one.source, page, self.push_screen(page)), page)

    async def _check(self, path: str, page: Reading, mounted: Awaitable[None]) -> None:
        await mounted
        try:
            page.change(await self._acts.check(path))
        except InferDevError as err:
            page.change(Text(printable(f"{err.message}\n{err.hint}".strip())))

    def action_events(self) -> None:
        self.push_screen(EventsScreen(list(self.events.all)))

    def action_help(self) -> None:
        self.push_screen(Reading("keys", help_text()))

    def action_clear(self) -> None:
        """Take away what is told on top of everything, then end the search."""
        self.clear_notifications()
        if self.log_panel.view.wanted:
            self.log_panel.action_end_search()
            self.instances.focus()

    def action_search(self) -> None:
        self.log_panel.begin_search()

    def action_find(self, step: int) -> None:
        self.log_panel.view.find(step)
        self.log_panel.tell()

    def action_last_error(self) -> None:
        """Go to the last error in the log."""
        if not self.log_panel.view.last_error():
            self._say("the log has no error, as far as it is kept here")
        self.log_panel.tell()

    def action_level(self) -> None:
        self.log_panel.next_level()

    def action_wrap(self) -> None:
        self.log_panel.toggle_wrap()

    def action_follow(self) -> None:
        self.log_panel.toggle_follow()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The command palette: textual's own commands, then every key's."""
        yield from super().get_system_commands(screen)
        if screen is self.screen_stack[0]:
            for binding in self.BINDINGS:
                if isinstance(binding, Binding) and binding.description:
                    title = binding.description.capitalize()
                    yield SystemCommand(
                        title, f"key {binding.key_display or binding.key}", self._command(binding.action)
                    )

    def _command(self, action: str) -> Any:  # Any: textual takes any callable
        async def run() -> None:
            await self.run_action(action)

        return run


def _counts(picture: Picture) -> tuple[int, int]:
    """What the layout goes by."""
    return len(picture.instances), len(picture.gpus)
