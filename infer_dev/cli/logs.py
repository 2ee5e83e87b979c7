"""`infer-dev logs` and `infer-dev events`."""

from __future__ import annotations

import codecs
import json
import sys
from collections import deque

from infer_dev.api.client import logs_target
from infer_dev.cli.launch import client
from infer_dev.cli.progress import transition_line
from infer_dev.cli.text import sanitized
from infer_dev.errors import EXIT_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


def logs(name: str, *, follow: bool = False, tail: int | None = None) -> int:
    """Print an instance's log as it stands in its file; on a terminal without control characters."""
    print_pieces(client().stream(logs_target(name, tail=tail, follow=follow)))
    return EXIT_OK


def print_pieces(pieces: Iterable[bytes]) -> None:
    """Print a log as its bytes come; a character cut in two by a piece's end is put together again."""
    terminal = sys.stdout.isatty()
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        if terminal:
            sys.stdout.write(sanitized(decoder.decode(piece), terminal=True))
            sys.stdout.flush()
        else:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


def events(*, follow: bool = False, tail: int | None = None, as_json: bool = False) -> int:
    """Print the transitions kept by the daemon, oldest first."""
    daemon = client()
    kept: Iterable[dict[str, Any]] = daemon.events(0, follow=False)  # Any: JSON
    if tail is not None:
        kept = list(deque(kept, maxlen=tail)) if tail else []
    last_id = 0
    for event in _then(kept, as_json=as_json):
        last_id = event["id"]
    if follow:
        if tail == 0:
            last_id = max((event["id"] for event in daemon.events(0, follow=False)), default=0)
        for _ in _then(daemon.events(last_id), as_json=as_json):
            pass
    return EXIT_OK


def _then(found: Iterable[dict[str, Any]], *, as_json: bool) -> Iterator[dict[str, Any]]:
    """Print events as they come and pass them on. Any: JSON."""
    for event in found:
        print(json.dumps(event, ensure_ascii=False) if as_json else f"{event['time']}  {transition_line(event)}")
        sys.stdout.flush()
        yield event
