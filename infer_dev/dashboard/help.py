"""Every key, for `?`."""

from rich.text import Text

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
WIDTH = 11


def help_text() -> Text:
    """The page."""
    text = Text()
    for title, keys in KEYS:
        text.append(f"{title}\n", "bold")
        for key, does in keys:
            text.append(f"  {key:<{WIDTH}}", "cyan").append(f"{does}\n")
    text.append("\nStates: ").append("ready", "green").append(" serves · ").append("starting", "cyan")
    text.append(" loads · ").append("degraded", "magenta").append(" runs, does not serve · ")
    text.append("backoff", "yellow").append(" will be tried again · ").append("failed", "bold red").append(
        " given up"
    )
    return text
