"""Reloads as the history tells them: what changed in a file, or why it could not be used."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from infer_dev.errors import InferDevError, NotFoundError
from infer_dev.plan.diff import Changes
from infer_dev.supervisor.history import History, Kind
from infer_dev.supervisor.reconcile import UpResult

log = logging.getLogger(__name__)

DONE, FAILED = "done", "failed"
INTERNAL = "internal error: see the daemon's log"
_WORDS = {"new": "new", "gone": "gone", "changed": "changed", "updated": "taken over without a restart"}


async def reload_when_wanted(
    wanted: asyncio.Event, sources: Mapping[str, object], reload: Callable[[Sequence[str]], Awaitable[object]]
) -> None:
    """Read every file that is up again, whenever `wanted` is set. One that cannot be used is told in the log."""
    while True:
        await wanted.wait()
        wanted.clear()
        for path in list(sources):
            try:
                await reload([path])
            except NotFoundError:
                log.info("%s is not read again: it was taken down meanwhile", path)
            except InferDevError as err:
                hint = f" ({err.hint})" if err.hint else ""
                log.error("cannot reload %s: %s%s", path, err.message, hint)  # noqa: TRY400 - ours, no trace
            except Exception:  # owner: the supervisor; a reload that goes wrong must not end the instances
                log.exception("the reload of %s failed", path)


async def recorded(
    history: History, paths: Sequence[str], reloading: Awaitable[Mapping[str, UpResult]]
) -> dict[str, UpResult]:
    """Do a reload and record what came of it: one record a file that was read, or one for why none was used.

    Args:
        history: where.
        paths: the files to be read.
        reloading: does it.

    Raises:
        InferDevError: as the reload does. A file that is not up is not recorded: nothing was read.
    """
    begun = time.monotonic()

    def tell(outcome: str, detail: str) -> None:
        after_s = time.monotonic() - begun
        history.add(kind=Kind.RELOAD, instance="", old="", new=outcome, after_s=after_s, detail=detail)

    try:
        results = dict(await reloading)
    except NotFoundError:
        raise
    except InferDevError as err:
        tell(FAILED, _named(paths, err.message))
        raise
    except Exception:
        tell(FAILED, _named(paths, INTERNAL))
        raise
    for path, result in results.items():
        tell(DONE, _named([path], changes_in_words(result.changes, enabled=result.enabled)))
    return results


def changes_in_words(changes: Changes, *, enabled: bool = True) -> str:
    """Such as "changed a, b; new c"; "nothing changed" if nothing did."""
    if not enabled:
        return "[master].enable is false: nothing is done"
    parts = [f"{word} {', '.join(names)}" for kind, word in _WORDS.items() if (names := getattr(changes, kind))]
    return "; ".join(parts) or "nothing changed"


def _named(paths: Sequence[str], message: str) -> str:
    """The message with the files in front, unless it names them itself."""
    unnamed = [path for path in paths if path not in message]
    return f"{', '.join(unnamed)}: {message}" if unnamed else message
