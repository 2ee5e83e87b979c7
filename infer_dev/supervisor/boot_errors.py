"""What boot could not do, taken into the history as it comes and goes (`<runtime>/boot-error`, `runtime.notes`)."""

import os

from infer_dev.host.runtime.notes import boot_errors
from infer_dev.settings import BOOT_ERROR_NAME
from infer_dev.supervisor.history import History, Kind

TOLD, CLEARED = "told", "cleared"
MOST_TOLD = 16  # errors of one look: the file may hold anybody's text


class BootErrors:
    """Looks whether boot has left errors, or taken them away."""

    def __init__(self, runtime: str, history: History) -> None:
        """What the daemon before has told already is not told again."""
        self._runtime, self._history = runtime, history
        self._path = os.path.join(runtime, BOOT_ERROR_NAME)
        self._seen: tuple[int, ...] = ()
        self._told = _told_in(history)

    def look(self) -> None:
        """To be called now and then; one stat(2) unless the file has changed."""
        try:
            found = os.stat(self._path, follow_symlinks=False)
            seen: tuple[int, ...] = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            seen = ()
        if seen == self._seen and (seen or not self._told):
            return
        self._seen = seen
        errors = boot_errors(self._runtime)[:MOST_TOLD] if seen else []
        for error in errors:
            if error not in self._told:
                self._add(TOLD, error)
        for error in self._told:
            if error not in errors:
                self._add(CLEARED, error)
        self._told = errors

    def _add(self, new: str, detail: str) -> None:
        self._history.add(kind=Kind.BOOT_ERROR, instance="", old="", new=new, after_s=0.0, detail=detail)


def _told_in(history: History) -> list[str]:
    """The errors that the records tell of, without those that were cleared."""
    told: dict[str, None] = {}
    for record in history.since(0):
        if record.kind == Kind.BOOT_ERROR and record.new == TOLD:
            told[record.detail] = None
        elif record.kind == Kind.BOOT_ERROR:
            told.pop(record.detail, None)
    return list(told)
