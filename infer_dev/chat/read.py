"""llama-server's JSON, read into typed replies. Nothing of what comes is believed before it is looked at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from infer_dev.chat.conversation import ChatResponse, Image, Timings, ToolCall, Usage
from infer_dev.chat.errors import AnswerError
from infer_dev.chat.reply import Completion, Embeddings, ServedModel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HINT = "is that the address of a llama-server?"
SHOWN_CHARS = 200
MAX_NUMBER = 1e300  # above lies what no float holds; NaN is not below it


def parse_json(text: str) -> dict[str, Any]:  # Any: JSON
    """The object in `text`.

    Raises:
        AnswerError: there is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise AnswerError(f"cannot understand the answer: no JSON: {shown(text)}", hint=HINT) from err
    if not isinstance(found, dict):
        raise AnswerError(f"cannot understand the answer: no JSON object: {shown(text)}", hint=HINT)
    return found


def shown(text: str) -> str:
    """The beginning of a text on one line, for a message."""
    line = " ".join(text[: 4 * SHOWN_CHARS].split())
    return repr(line if len(line) <= SHOWN_CHARS else f"{line[:SHOWN_CHARS]}…")


def text_of(value: object, name: str) -> str:
    """A text; null and what is missing are "".

    Raises:
        AnswerError: it is none.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise unexpected(name)
    return value


def items_of(value: object, name: str) -> list[Any]:  # Any: JSON
    """A list; null is an empty one.

    Raises:
        AnswerError: it is none.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise unexpected(name)
    return value


def object_of(value: object, name: str) -> dict[str, Any]:  # Any: JSON
    """An object; null is an empty one.

    Raises:
        AnswerError: it is none.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise unexpected(name)
    return value


def unexpected(name: str) -> AnswerError:
    """The error of a field that is not what it should be."""
    return AnswerError(f"cannot understand the answer: {name} is not what it should be", hint=HINT)


def error_in(body: Mapping[str, object]) -> tuple[int, str] | None:
    """Code and message of an error, in the forms that servers have for it; code 0 where none is told."""
    error = body.get("error")
    if not error:
        return None
    if not isinstance(error, dict):
        return 0, error if isinstance(error, str) else "an error without a message"
    code, message = error.get("code"), error.get("message")
    return _whole(code) or 0, message if isinstance(message, str) else "an error without a message"


def chat_response(body: Mapping[str, Any]) -> ChatResponse:  # Any: JSON
    """The reply of `/v1/chat/completions` without streaming."""
    choice = first_choice(body)
    if choice is None:
        raise unexpected("choices")
    message = object_of(choice.get("message"), "message")
    calls = [object_of(one, "tool_calls") for one in items_of(message.get("tool_calls"), "tool_calls")]
    return ChatResponse(
        content=text_of(message.get("content"), "content"),
        reasoning_content=text_of(message.get("reasoning_content"), "reasoning_content"),
        tool_calls=tuple(_tool_call(one) for one in calls),
        images=images_of(message),
        finish_reason=text_of(choice.get("finish_reason"), "finish_reason"),
        model=text_of(body.get("model"), "model"),
        usage=usage_of(body),
        timings=timings_of(body),
    )


def first_choice(body: Mapping[str, Any]) -> dict[str, Any] | None:  # Any: JSON
    """The first of the answers that were asked for; None where there is nothing of it. Others (`n`) are not ours.

    In a stream each event has a piece of one of them, in any order.
    """
    for item in items_of(body.get("choices"), "choices"):
        choice = object_of(item, "choices")
        if not choice.get("index"):
            return choice
    return None


def completion(body: Mapping[str, Any]) -> Completion:  # Any: JSON
    """The reply of `/completion`."""
    if not isinstance(body.get("content"), str):
        raise unexpected("content")
    return Completion(
        content=body["content"],
        stop_type=text_of(body.get("stop_type"), "stop_type"),
        prompt_tokens=_whole(body.get("tokens_evaluated")) or 0,
        predicted_tokens=_whole(body.get("tokens_predicted")) or 0,
        is_truncated=body.get("truncated") is True,
        timings=timings_of(body),
    )


def embeddings(body: Mapping[str, Any], count: int) -> Embeddings:  # Any: JSON
    """The reply of `/v1/embeddings` for so many texts."""
    vectors: list[tuple[float, ...]] = [()] * count
    for position, item in enumerate(items_of(body.get("data"), "data")):
        one = object_of(item, "data")
        index = _whole(one.get("index", position))
        values = items_of(one.get("embedding"), "embedding")
        if (
            index is None
            or not 0 <= index < count
            or not all(isinstance(value, (int, float)) and abs(value) < MAX_NUMBER for value in values)
        ):
            raise unexpected("data")
        vectors[index] = tuple(map(float, values))
    if not all(vectors):
        raise unexpected("data")
    return Embeddings(tuple(vectors), _whole(object_of(body.get("usage"), "usage").get("prompt_tokens")) or 0)


def served_models(body: Mapping[str, Any]) -> tuple[ServedModel, ...]:  # Any: JSON
    """The reply of `/v1/models`."""
    found = []
    for item in items_of(body.get("data"), "data"):
        one = object_of(item, "data")
        meta = object_of(one.get("meta"), "meta")
        found.append(
            ServedModel(
                id=text_of(one.get("id"), "id"),
                context_tokens=_whole(meta.get("n_ctx")) or _whole(meta.get("n_ctx_train")),
                parameters=_whole(meta.get("n_params")),
                size_bytes=_whole(meta.get("size")),
            )
        )
    return tuple(found)


def token_count(body: Mapping[str, Any]) -> int:  # Any: JSON
    """The reply of `/v1/messages/count_tokens` (`input_tokens`), or of `/tokenize` (`tokens`)."""
    if (told := _whole(body.get("input_tokens"))) is not None:
        return told
    if not isinstance(body.get("tokens"), list):
        raise unexpected("tokens")
    return len(body["tokens"])


def images_of(message: Mapping[str, Any]) -> tuple[Image, ...]:  # Any: JSON
    """The images of a message or of a delta, in the form that requests have them."""
    parts = [object_of(one, "images") for one in items_of(message.get("images"), "images")]
    urls = [object_of(one.get("image_url"), "image_url").get("url") for one in parts]
    return tuple(Image(text_of(url, "url")) for url in urls if url)


def usage_of(body: Mapping[str, Any]) -> Usage | None:  # Any: JSON
    """The tokens, where they are told."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=_whole(usage.get("prompt_tokens")) or 0,
        completion_tokens=_whole(usage.get("completion_tokens")) or 0,
        cached_tokens=_whole(details.get("cached_tokens")) or 0 if isinstance(details, dict) else 0,
    )


def timings_of(body: Mapping[str, Any]) -> Timings | None:  # Any: JSON
    """The times, where they are told."""
    timings = body.get("timings")
    if not isinstance(timings, dict):
        return None
    return Timings(
        prompt_tokens=_whole(timings.get("prompt_n")) or 0,
        prompt_ms=_number(timings.get("prompt_ms")),
        predicted_tokens=_whole(timings.get("predicted_n")) or 0,
        predicted_ms=_number(timings.get("predicted_ms")),
    )


def _tool_call(call: Mapping[str, Any]) -> ToolCall:  # Any: JSON
    function = object_of(call.get("function"), "function")
    return ToolCall(
        text_of(call.get("id"), "id"),
        text_of(function.get("name"), "name"),
        text_of(function.get("arguments"), "arguments"),
    )


def _whole(value: object) -> int | None:
    return value if type(value) is int else None


def _number(value: object) -> float:
    """A number that can be counted with, else 0."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < MAX_NUMBER else 0.0
