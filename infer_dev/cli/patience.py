"""What a command tells when the daemon lets it wait because of another request."""

from __future__ import annotations

import sys

from infer_dev.api.client import status_target
from infer_dev.cli.text import sanitized
from infer_dev.errors import InferDevError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from infer_dev.api.client import DaemonClient

ASK_S = 2.0


def telling(daemon: DaemonClient, *words: str) -> Callable[[], None]:
    """What `DaemonClient.post` shall call when it takes long. `words`: the request, as `daemon.requests` has it."""

    def tell() -> None:
        try:
            status = daemon.get(status_target(()), timeout_s=ASK_S)
        except InferDevError:
            return
        if line := waits_for(status, " ".join(words)):
            print(sanitized(f"infer-dev: {line}", terminal=True), file=sys.stderr, flush=True)

    return tell


def waits_for(status: Mapping[str, Any], what: str) -> str:
    """One line about what a request waits for; "" if that is nothing but its own work. Any: JSON."""
    requests = status["daemon"].get("requests", [])  # a daemon of an older version tells nothing
    first = [name for one in requests if one["what"] == what for name in one["waits_for"]]
    if not first:
        return ""
    stopping = [
        f"{one['name']} {one['note'] or one['state']}" for one in status["instances"] if one["state"] == "stopping"
    ]
    why = f" ({'; '.join(stopping)})" if stopping else ""
    return f"waits until `{'`, `'.join(dict.fromkeys(first))}` is over{why}; Ctrl-C withdraws this"
