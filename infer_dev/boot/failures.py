"""What boot could not do: told once on stderr, and kept in `<runtime>/boot-error` for as long as it is so."""

from __future__ import annotations

from infer_dev.boot.report import warn
from infer_dev.host.runtime.notes import boot_errors, leave_boot_errors
from infer_dev.settings import runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Failures:
    """The failures there are, each of a subject, the oldest first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """`environ`: boot's, which tells the runtime directory."""
        self._runtime = runtime_dir(environ)
        self._of: dict[str, str] = {}
        self._written: dict[str, str] = {}
        self._is_recorded = False

    def tell(self, subject: str, message: str, details: str = "") -> None:
        """Something failed. The same of the same subject is told no second time.

        Args:
            subject: what it is about.
            message: starts with "cannot".
            details: lines that explain it, or the next step.
        """
        text = f"{message}\n{details}".rstrip()
        if self._of.get(subject) == text:
            return
        self._of[subject] = text
        self._is_recorded = False
        warn(message)

    def clear(self, subject: str) -> None:
        """It is no longer so."""
        if self._of.pop(subject, None) is not None:
            self._is_recorded = False

    def record(self) -> None:
        """Leave them for the login banner and `status`, or remove those of the last time, if something changed."""
        if self._is_recorded:
            return
        self._is_recorded = True
        self._forget_what_was_put_right()
        try:
            leave_boot_errors(self._runtime, list(self._of.values()))
            self._written = dict(self._of)
        except OSError as err:
            warn(f"cannot write boot's errors into {self._runtime}: {err.strerror}")

    def _forget_what_was_put_right(self) -> None:
        """What is no longer in the file was done by hand since, as by `infer-dev up` (cli/boot_step.py)."""
        there = {error.partition("\n")[0] for error in boot_errors(self._runtime)} if self._written else set()
        for subject, text in self._written.items():
            if self._of.get(subject) == text and text.partition("\n")[0] not in there:
                del self._of[subject]
