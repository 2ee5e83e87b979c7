"""The states of an instance as the API tells them, for all who show them: which run, which last, in what colour.

`supervisor/lifecycle.py` is where states come about. Here they are plain words, so that a client need not import it.
"""

RUNNING = ("starting", "ready", "degraded", "stopping")
"""There is a process."""
SETTLED = ("ready", "degraded", "failed", "stopped", "disabled")
"""Nothing more follows by itself."""

# Names of the terminal's own sixteen colours: they follow its light or dark scheme.
_STYLES = {
    "ready": "green",
    "starting": "cyan",
    "stopping": "yellow",
    "backoff": "yellow",
    "degraded": "magenta",
    "failed": "bold red",
    "stopped": "dim",
    "disabled": "dim",
}


def state_style(state: str) -> str:
    """The style (rich's) of a state's word; none for a state that a newer daemon has."""
    return _STYLES.get(state, "")
