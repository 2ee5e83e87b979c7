"""What is asked of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infer_dev.chat.conversation import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for; `parameters` is a JSON Schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, object] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A conversation, and how to go on with it. What is None or empty is left to the server's own settings.

    Attributes:
        messages: the conversation so far, the oldest first.
        model: needed where several are served at one address.
        max_tokens: the most the answer may have.
        temperature, top_p, min_p, top_k, seed: of the sampling.
        stop: a text, or several, at which the answer ends.
        tools, tool_choice: functions; "auto", "none" or "required".
        json_schema: the answer must be JSON that fits it.
        extra: any other fields of the request's body, by llama-server's names; they win over the above.
    """

    messages: Sequence[Message]
    model: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    min_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: str | Sequence[str] = ()
    tools: Sequence[Tool] = ()
    tool_choice: str = ""
    json_schema: Mapping[str, object] | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def ask(
        cls, text: str, *, system: str = "", max_tokens: int | None = None, temperature: float | None = None
    ) -> ChatRequest:
        """A request with one question."""
        head = (Message("system", system),) if system else ()
        return cls(messages=(*head, Message("user", text)), max_tokens=max_tokens, temperature=temperature)


def chat_body(request: ChatRequest, *, stream: bool) -> dict[str, object]:
    """The body of `POST /v1/chat/completions`."""
    body: dict[str, object] = {"messages": [_message(one) for one in request.messages]}
    for name in ("max_tokens", "temperature", "top_p", "min_p", "top_k", "seed"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    for name in ("model", "tool_choice"):
        if value := getattr(request, name):
            body[name] = value
    if request.stop:
        body["stop"] = texts_of(request.stop)
    if request.tools:
        body["tools"] = [_tool(one) for one in request.tools]
    if request.json_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": request.json_schema},
        }
    body |= request.extra
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {"stream": False})


def texts_of(texts: str | Sequence[str]) -> list[str]:
    """One text, or several, as several: a str is also a sequence, of its letters."""
    return [texts] if isinstance(texts, str) else list(texts)


def _message(message: Message) -> dict[str, object]:
    content: object = message.content
    if message.images:
        images = [{"type": "image_url", "image_url": {"url": one.url}} for one in message.images]
        content = [*images, {"type": "text", "text": message.content}]
    body: dict[str, object] = {"role": message.role, "content": content}
    if message.tool_calls:
        body["tool_calls"] = [
            {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for one in message.tool_calls
        ]
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    if message.reasoning_content:
        body["reasoning_content"] = message.reasoning_content
    return body


def _tool(tool: Tool) -> dict[str, object]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
