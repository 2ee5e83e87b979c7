"""What can go wrong between a program and a llama-server, each its own type.

The texts of the first two are fixed: other clients of llama-server use the same, and people search for them.
"""

from __future__ import annotations

from infer_dev.chat.conversation import ChatError, ChatResponse
from infer_dev.errors import EXIT_TEMPFAIL, EXIT_UNAVAILABLE

UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404


class NotRunningError(ChatError):
    """Nobody answers at the endpoint."""

    exit_status = EXIT_UNAVAILABLE
    code = "chat-not-running"
    http_status = 503

    def __init__(self, endpoint: str, why: str = "") -> None:
        super().__init__(
            f"llama-server not running at {endpoint}{why and f' ({why})'}",
            hint="start it with `infer-dev up FILE`; `infer-dev status` tells what runs where",
        )
        self.endpoint = endpoint


class RequestTimeoutError(ChatError):
    """No answer, or no next event of a stream, came in time."""

    exit_status = EXIT_TEMPFAIL
    code = "chat-timeout"
    http_status = 504

    def __init__(self, timeout_s: float, *, partial: ChatResponse | None = None) -> None:
        super().__init__(
            f"llama-server request timed out after {timeout_s:g} s",
            hint="give it more time (timeout_s), or see `infer-dev status` and `infer-dev logs NAME`",
            partial=partial,
        )
        self.timeout_s = timeout_s


class ServerError(ChatError):
    """The server answered with an error of its own, be it in the middle of a stream.

    Attributes:
        status: the HTTP status, or the code in the event.
        server_message: its own words.
    """

    code = "chat-server"

    def __init__(
        self, status: int, server_message: str, *, hint: str = "", partial: ChatResponse | None = None
    ) -> None:
        super().__init__(f"llama-server answered {status}: {server_message}", hint=hint, partial=partial)
        self.status = status
        self.server_message = server_message


class KeyRefusedError(ServerError):
    """The server wants an API key, or another one (401, 403)."""

    code = "chat-key"


class LoadingError(ServerError):
    """The server is still loading its model (503)."""

    exit_status = EXIT_TEMPFAIL
    code = "chat-loading"
    http_status = 503


class BrokenStreamError(ChatError):
    """The connection ended in the middle of an answer."""

    code = "chat-broken-stream"


class AnswerError(ChatError):
    """What answered does not speak as a llama-server does."""

    code = "chat-answer"


def server_error(status: int, message: str, *, partial: ChatResponse | None = None) -> ServerError:
    """The error of the type that fits a status."""
    if status in (UNAUTHORIZED, FORBIDDEN):
        return KeyRefusedError(
            status,
            message,
            hint="give its API key: auth_token=…, on the command line $LLAMA_API_KEY",
            partial=partial,
        )
    hint = "is that the address of a llama-server?" if status == NOT_FOUND else ""
    return ServerError(status, message, hint=hint, partial=partial)
