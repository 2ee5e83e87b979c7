"""An answer put together from the pieces of its stream."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from infer_dev.chat.conversation import ChatResponse, Image, Timings, ToolCall, Usage
from infer_dev.chat.errors import AnswerError, server_error
from infer_dev.chat.read import (
    error_in,
    first_choice,
    images_of,
    items_of,
    object_of,
    parse_json,
    text_of,
    timings_of,
    unexpected,
    usage_of,
)
from infer_dev.chat.reply import ContentDelta, Finished, ReasoningDelta, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from infer_dev.chat.reply import ChatStreamEvent
    from infer_dev.chat.sse import Event

MAX_ANSWER_CHARS = 16 * 1024 * 1024
MAX_TOOL_CALLS = 1024
DONE = "[DONE]"
INTERNAL_ERROR = 500


class Assembly:
    """Takes the events of one stream, gives what is new in each, and has all that has come.

    Attributes:
        is_done: the server has said that nothing more comes.
    """

    __slots__ = (
        *("_calls", "_chars", "_content", "_finish_reason", "_images", "_model", "_reasoning", "_timings"),
        *("_usage", "is_done"),
    )

    def __init__(self) -> None:
        self._content = StringIO()  # a list of pieces would take fifty bytes for each
        self._reasoning = StringIO()
        self._calls: dict[int, _Call] = {}
        self._images: list[Image] = []
        self._chars = 0
        self._finish_reason = self._model = ""
        self._usage: Usage | None = None
        self._timings: Timings | None = None
        self.is_done = False

    @property
    def is_finished(self) -> bool:
        """Whether the model has come to an end; usage and timings may still follow."""
        return bool(self._finish_reason)

    def response(self) -> ChatResponse:
        """What has come by now."""
        return ChatResponse(
            content=self._content.getvalue(),
            reasoning_content=self._reasoning.getvalue(),
            tool_calls=tuple(self._calls[index].whole() for index in sorted(self._calls)),
            images=tuple(self._images),
            finish_reason=self._finish_reason,
            model=self._model,
            usage=self._usage,
            timings=self._timings,
        )

    def take(self, event: Event) -> list[ChatStreamEvent]:
        """What the event adds.

        Raises:
            ServerError: it is an error.
            AnswerError: it is not to be understood, or the answer is longer than any can be.
        """
        if event.data == DONE:
            self.is_done = True
            return [Finished(self.response())]
        body = parse_json(event.data)
        if "error" in body and (error := error_in(body)):
            raise server_error(error[0] or INTERNAL_ERROR, error[1])
        if event.name == "error":
            code, message = error_in({"error": body}) or (0, "")
            raise server_error(code or INTERNAL_ERROR, message if body.get("message") else event.data)
        if not self._model:
            self._model = text_of(body.get("model"), "model")
        if "usage" in body:
            self._usage = usage_of(body) or self._usage
        if "timings" in body:
            self._timings = timings_of(body) or self._timings
        choice = first_choice(body)
        if choice is None:
            return []
        if reason := choice.get("finish_reason"):
            self._finish_reason = text_of(reason, "finish_reason")
        delta = choice.get("delta")
        return self._delta(object_of(delta, "delta")) if delta else []

    def _delta(self, delta: Mapping[str, Any]) -> list[ChatStreamEvent]:  # Any: JSON
        found: list[ChatStreamEvent] = []
        if reasoning := delta.get("reasoning_content"):
            self._reasoning.write(self._counted(text_of(reasoning, "reasoning_content")))
            found.append(ReasoningDelta(reasoning))
        if content := delta.get("content"):
            self._content.write(self._counted(text_of(content, "content")))
            found.append(ContentDelta(content))
        if calls := delta.get("tool_calls"):
            found += [self._call(object_of(one, "tool_calls")) for one in items_of(calls, "tool_calls")]
        if "images" in delta:
            images = images_of(delta)
            for image in images:
                self._counted(image.url)
            self._images += images
        return found

    def _call(self, piece: Mapping[str, Any]) -> ToolCallDelta:  # Any: JSON
        """A piece of a tool call; all pieces of one have its index.

        Some servers tell none: there an id that is new begins another call.
        """
        index = piece.get("index")
        if index is None:
            index = self._index_of(text_of(piece.get("id"), "id"))
        if type(index) is not int or not 0 <= index < MAX_TOOL_CALLS:
            raise unexpected("tool_calls")
        function = object_of(piece.get("function"), "function")
        delta = ToolCallDelta(
            index,
            text_of(piece.get("id"), "id"),
            text_of(function.get("name"), "name"),
            text_of(function.get("arguments"), "arguments"),
        )
        self._calls.setdefault(index, _Call()).add(delta)
        self._counted(delta.id + delta.name + delta.arguments)
        return delta

    def _index_of(self, call_id: str) -> int:
        """Of a piece without an index: its id's, or the last call's if it has no id either."""
        known = next((index for index, call in self._calls.items() if call.id == call_id), None)
        last = max(self._calls, default=0)
        if not call_id:
            return last
        if known is not None:
            return known
        return last + 1 if self._calls else 0

    def _counted(self, text: str) -> str:
        self._chars += len(text)
        if self._chars > MAX_ANSWER_CHARS:
            raise AnswerError(f"cannot keep the answer: it is longer than {MAX_ANSWER_CHARS >> 20} Mi characters")
        return text


class _Call:
    """A tool call on its way."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.arguments = StringIO()

    def add(self, delta: ToolCallDelta) -> None:
        self.id = self.id or delta.id
        if delta.name != self.name:  # some servers tell it in pieces, others with each piece
            self.name += delta.name
        self.arguments.write(delta.arguments)

    def whole(self) -> ToolCall:
        return ToolCall(self.id, self.name, self.arguments.getvalue())
