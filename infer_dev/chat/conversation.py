"""What is said in a conversation, by either side.

The base of the errors is here, too: an error has with it what of an answer had come, and an image that cannot be read
is an error.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from infer_dev.errors import EXIT_USAGE, InferDevError

if TYPE_CHECKING:
    from collections.abc import Sequence

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Image:
    """An image, by a URL: `http:`, `https:`, or `data:` with the bytes in it."""

    url: str

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str = "image/png") -> Image:
        """The image itself, in whatever format the server's decoder knows (PNG, JPEG, …)."""
        return cls(f"data:{media_type};base64,{base64.b64encode(data).decode()}")

    @classmethod
    def from_file(cls, path: str) -> Image:
        """The image in a file.

        Raises:
            RequestError: it cannot be read.
        """
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as err:
            raise RequestError(
                f"cannot read the image {path}: {err.strerror}", hint="name a file that is there"
            ) from err
        import mimetypes  # noqa: PLC0415 - a millisecond, needed for this only

        return cls.from_bytes(data, mimetypes.guess_type(path)[0] or "image/png")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called.

    Attributes:
        id: which call an answer is for.
        name: the function's.
        arguments: a JSON object as text, as the model wrote it: it may be wrong.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. `tool_call_id` says which call a message of role "tool" answers."""

    role: Role
    content: str = ""
    images: Sequence[Image] = ()
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str = ""
    reasoning_content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens; `cached_tokens` are those of the prompt that the server still knew."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long it took, by llama-server's own clock.

    Attributes:
        prompt_tokens, prompt_ms: of the prompt what was computed, without what was cached.
        predicted_tokens, predicted_ms: what was generated.
    """

    prompt_tokens: int = 0
    prompt_ms: float = 0.0
    predicted_tokens: int = 0
    predicted_ms: float = 0.0

    @property
    def prompt_per_s(self) -> float:
        """Tokens a second; 0 where nothing was computed."""
        return self.prompt_tokens / self.prompt_ms * 1000 if self.prompt_ms > 0 else 0.0

    @property
    def predicted_per_s(self) -> float:
        """Tokens a second; 0 where fewer than two were generated: the server's clock starts with the first."""
        is_told = self.predicted_tokens > 1 and self.predicted_ms > 0
        return self.predicted_tokens / self.predicted_ms * 1000 if is_told else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse:
    """An answer, or as much of it as has come.

    Attributes:
        content: the text.
        reasoning_content: what the model thought before, where the server tells it apart.
        tool_calls: functions that it wants called.
        images: where a model makes such.
        finish_reason: "stop", "length", "tool_calls", …; "" while it has not come to an end.
        model: what the server calls it.
        usage, timings: None where the server did not tell (yet).
    """

    content: str = ""
    reasoning_content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    images: tuple[Image, ...] = ()
    finish_reason: str = ""
    model: str = ""
    usage: Usage | None = None
    timings: Timings | None = None

    @property
    def message(self) -> Message:
        """The answer as the next message of the conversation."""
        return Message("assistant", self.content, images=self.images, tool_calls=self.tool_calls)


class ChatError(InferDevError):
    """Any of them.

    Attributes:
        partial: what of a streamed answer had come by then; None where nothing was streamed.
    """

    code = "chat"
    http_status = 502

    def __init__(self, message: str, *, hint: str = "", partial: ChatResponse | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial = partial


class RequestError(ChatError):
    """The request cannot be sent as it is."""

    exit_status = EXIT_USAGE
    code = "chat-request"
    http_status = 400
