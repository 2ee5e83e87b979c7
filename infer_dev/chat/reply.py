"""What a llama-server answers, typed."""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from infer_dev.chat.conversation import ChatResponse, Timings


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
