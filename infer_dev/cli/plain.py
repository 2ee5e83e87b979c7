"""`infer-dev dashboard --plain`: lines that a screen reader can read, in place of a screen that is drawn over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from infer_dev.cli.rows import HEADERS, row
from infer_dev.cli.text import columns
from infer_dev.errors import EXIT_OK, InferDevError
from infer_dev.host.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infer_dev.dashboard.link import Link

EVERY_S = 1.0
MOVING = ("MEMORY", "UPTIME")  # what alone is no news


def watch_plain(link: Link) -> int:
    """Print the table of `status`, again whenever anything but ages and memory is another; until interrupted."""
    asyncio.run(_watch(link))
    return EXIT_OK


async def _watch(link: Link) -> None:
    before: object = None
    while True:
        try:
            instances: Sequence[Mapping[str, Any]] = (await link.get("/status"))["instances"]  # Any: JSON
            news: object = [_lasting(one) for one in instances]
            text = columns([HEADERS, *([printable(cell) for cell in row(one)] for one in instances)])
        except InferDevError as err:
            news = text = printable(err.message) + ("; trying again" if before is not None else "")
            if before is None:
                raise
        if news != before:
            print(text, flush=True)
            before = news
        await asyncio.sleep(EVERY_S)


def _lasting(one: Mapping[str, Any]) -> list[str]:  # Any: JSON
    cells = row(dict(one) | {"due_in_s": None})
    return [cell for header, cell in zip(HEADERS, cells, strict=True) if header not in MOVING]
