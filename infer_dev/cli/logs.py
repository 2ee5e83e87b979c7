"""`infer-dev logs` and `infer-dev events`."""

from __future__ import annotations

import codecs
import json
import sys
from collections import deque

from infer_dev.api.client import logs_target
from infer_dev.cli.follow import follow_events, follow_log
from infer_dev.cli.launch import client
from infer_dev.cli.progress import transition_line
from infer_dev.cli.text import sanitized
from infer_dev.errors import EXIT_OK
from infer_dev.host.printable import begun_sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


def logs(name: str, *, follow: bool = False, tail: int | None = None) -> int:
    """Print what is kept of an instance's log, the oldest line first; on a terminal without control characters."""
    daemon = client()
    there = daemon.stream(logs_target(name, tail=tail, follow=False))
    print_pieces(follow_log(daemon, name, tail=tail) if follow else there)
    return EXIT_OK


def print_pieces(pieces: Iterable[bytes]) -> None:
    """Print a log as its bytes come; on a terminal made safe for it."""
    if not sys.stdout.isatty():
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        return
    for text in safe_texts(pieces):
        sys.stdout.write(text)
        sys.stdout.flush()


def safe_texts(pieces: Iterable[bytes]) -> Iterator[str]:
    """Bytes as text for a terminal; a character or a colour cut in two by a piece's end is put together again."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    kept = ""
    for piece in pieces:
        text = kept + decoder.decode(piece)
        end = begun_sequence(text)
        kept = text[end:]
        yield sanitized(text[:end], terminal=True)
    yield sanitized(kept + decoder.decode(b"", final=True), terminal=True)


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
        for _ in _then(follow_events(daemon, last_id), as_json=as_json):
            pass
    return EXIT_OK


def _then(found: Iterable[dict[str, Any]], *, as_json: bool) -> Iterator[dict[str, Any]]:
    """Print events as they come and pass them on. Any: JSON."""
    for event in found:
        print(json.dumps(event, ensure_ascii=False) if as_json else f"{event['time']}  {transition_line(event)}")
        sys.stdout.flush()
        yield event
