"""What a llama-server answers, typed."""

from __future__ import annotations

from dataclasses import dataclass

from infer_dev.chat.request import Image, Message, ToolCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


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


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """More of the text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a tool call; of llama-server's, `id` and `name` come with its first piece, and are "" in the others."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete; the last event of a stream."""

    response: ChatResponse


ChatStreamEvent = ContentDelta | ReasoningDelta | ToolCallDelta | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A text that was gone on with.

    Attributes:
        content: the new text.
        stop_type: why it ended: "eos", "limit", "word".
        prompt_tokens, predicted_tokens: how many.
        is_truncated: the prompt did not fit into the context, and lost some of its tokens.
    """

    content: str
    stop_type: str = ""
    prompt_tokens: int = 0
    predicted_tokens: int = 0
    is_truncated: bool = False
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector a text, in the order of the texts."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the server serves; `detail` is its own word for it ("ok", "Loading model")."""

    is_ready: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that is served; numbers are None where the server does not tell them."""

    id: str
    context_tokens: int | None = None
    parameters: int | None = None
    size_bytes: int | None = None


def as_json(response: ChatResponse) -> Mapping[str, object]:
    """A response as plain values, for `--json`."""
    usage, timings = response.usage, response.timings
    return {
        "content": response.content,
        "reasoning_content": response.reasoning_content,
        "tool_calls": [{"id": one.id, "name": one.name, "arguments": one.arguments} for one in response.tool_calls],
        "images": [one.url for one in response.images],
        "finish_reason": response.finish_reason,
        "model": response.model,
        "usage": usage
        and {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
        },
        "timings": timings
        and {
            "prompt_tokens": timings.prompt_tokens,
            "prompt_ms": timings.prompt_ms,
            "prompt_per_s": timings.prompt_per_s,
            "predicted_tokens": timings.predicted_tokens,
            "predicted_ms": timings.predicted_ms,
            "predicted_per_s": timings.predicted_per_s,
        },
    }
