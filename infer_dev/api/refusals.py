"""Why a request is not even looked at; what HTTP has a status of its own for."""

from collections.abc import Mapping

from infer_dev.errors import InferDevError


class HttpError(InferDevError):
    """A request that is refused.

    Args:
        headers: to send along.
    """

    http_status = 400
    code = "usage"

    def __init__(self, message: str, *, hint: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.headers = headers or {}


class UnauthorizedError(HttpError):
    """No token, or a wrong one."""

    http_status = 401
    code = "unauthorized"


class ForbiddenError(HttpError):
    """Not for this caller."""

    http_status = 403
    code = "forbidden"


class MethodError(HttpError):
    """The path is known, but not with this method."""

    http_status = 405
    code = "method-not-allowed"


class TooLargeError(HttpError):
    """The body is larger than anything that is meant."""

    http_status = 413
    code = "too-large"


class MediaTypeError(HttpError):
    """The body is of another kind."""

    http_status = 415
    code = "media-type"


class MisdirectedError(HttpError):
    """It was meant for another host."""

    http_status = 421
    code = "misdirected"


class BusyError(HttpError):
    """More are asking than are served at once."""

    http_status = 503
    code = "busy"
