"""Every error a user can meet: what went wrong, where, what to do next, and the exit status.

Exit statuses follow sysexits.h where it has a fitting one, so that scripts can tell them apart.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` is slow to import, and every command imports this module
if TYPE_CHECKING:
    from typing import ClassVar

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_TEMPFAIL = 75
EXIT_CONFIG = 78


class InferDevError(Exception):
    """An error meant for a person.

    Args:
        message: starts with "cannot"; names the file, line and dotted key where there is one.
        hint: the next step, or "".
    """

    exit_status: ClassVar[int] = EXIT_FAILED
    code: ClassVar[str] = "failed"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_problem(self) -> dict[str, str | int]:
        """The error as an RFC 9457 problem document; `error` is for programs that look for that key."""
        return {
            "type": f"urn:infer-dev:error:{self.code}",
            "title": self.code,
            "status": self.http_status,
            "detail": self.message,
            "hint": self.hint,
            "error": self.message,
        }


class InstanceError(InferDevError):
    """An instance failed or cannot do what was asked of it."""

    code = "instance-failed"
    http_status = 409


class UsageError(InferDevError):
    """The command line or the request is not understood."""

    exit_status = EXIT_USAGE
    code = "usage"
    http_status = 400


class NotFoundError(UsageError):
    """The name given is of no instance."""

    code = "not-found"
    http_status = 404


class ConfigError(InferDevError):
    """The configuration cannot be used as it stands."""

    exit_status = EXIT_CONFIG
    code = "config"
    http_status = 422


class BundleError(InferDevError):
    """An archive that cannot be installed, or a bundle that cannot be made."""

    code = "bundle"
    http_status = 422


class UnavailableError(InferDevError):
    """Something needed is not there: the daemon, the server binary, a port."""

    exit_status = EXIT_UNAVAILABLE
    code = "unavailable"
    http_status = 503


class TimedOutError(InferDevError):
    """It did not happen within the time given."""

    exit_status = EXIT_TEMPFAIL
    code = "timeout"
    http_status = 504


_BY_CODE: dict[str, type[InferDevError]] = {
    kind.code: kind
    for kind in (
        InferDevError,
        InstanceError,
        UsageError,
        NotFoundError,
        ConfigError,
        BundleError,
        UnavailableError,
        TimedOutError,
    )
}


def from_problem(problem: dict[str, object]) -> InferDevError:
    """The error a daemon answered with, rebuilt from its problem document."""
    kind = _BY_CODE.get(str(problem.get("title")), InferDevError)
    return kind(str(problem.get("detail", "unknown error")), hint=str(problem.get("hint", "")))
