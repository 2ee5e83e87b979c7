"""Every key, for `?`."""

from rich.text import Text

from infer_dev.states import state_style

KEYS = (
    ("acts on the selected instance", (
        ("↑ ↓  j k", "select an instance (also by a click)"),
        ("Home End", "the first, the last; PgUp PgDn: a page further"),
        ("s", "start or stop it"),
        ("r", "restart it"),
        ("c", "check its file, as `infer-dev check`"),
    )),
    ("models and files", (
        ("m", "pick a model; Enter switches to it, verified"),
        ("l", "reload the files that are up; shows the plan first"),
    )),
    ("the log", (
        ("/", "search; n, N: next one, one before; Esc ends it"),
        ("x", "the last error"),
        ("v", "fewer lines: no debug, warnings, errors; then all"),
        ("w", "wrap long lines"),
        ("f  End", "follow its end; scrolling up holds it"),
        ("PgUp PgDn", "scroll, also by the wheel"),
    )),
    ("everything else", (
        ("e", "all events, with causes and log lines"),
        ("Esc", "closes what is open, takes messages away"),
        ("Tab", "from the instances to the log and back"),
        ("Ctrl+P", "every command by its name"),
        ("?", "this page"),
        ("q", "quit: the instances go on"),
    )),
)  # fmt: skip
STATES = (
    ("ready", "serves"),
    ("starting", "loads"),
    ("degraded", "runs, does not serve"),
    ("backoff", "will be tried again"),
    ("failed", "given up"),
)
WIDTH = 11


def help_text() -> Text:
    """The page."""
    text = Text()
    for title, keys in KEYS:
        text.append(f"{title}\n", "bold")
        for key, does in keys:
            text.append(f"  {key:<{WIDTH}}", "cyan").append(f"{does}\n")
    text.append("\nStates:")
    for at, (state, means) in enumerate(STATES):
        text.append(" · " if at else " ").append(state, state_style(state)).append(f" {means}")
    return text
