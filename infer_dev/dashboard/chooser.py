"""A picker on its own: for choosing before anything runs."""

from collections.abc import Sequence

from textual.app import App

from infer_dev.dashboard.picker import Choice, Picker
from infer_dev.dashboard.signals import end_by_signals


class Chooser(App[str | None]):
    """Shows the list and ends with the id of what was chosen, or None."""

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, title: str, headers: Sequence[str], choices: Sequence[Choice], *, does: str) -> None:
        """As `Picker`."""
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._picker = Picker(title, headers, choices, does=does)

    def on_mount(self) -> None:
        """Nothing but the list."""
        end_by_signals(self)
        self.push_screen(self._picker, self.exit)
