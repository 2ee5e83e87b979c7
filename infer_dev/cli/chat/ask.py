"""`infer-dev chat`."""

from __future__ import annotations

import json
import os
import sys

from infer_dev.chat import ChatRequest, ContentDelta, Message
from infer_dev.chat.reply import as_json as response_as_json
from infer_dev.cli.chat.server import blocking_client, chosen_address
from infer_dev.cli.text import is_terminal, sanitized
from infer_dev.errors import EXIT_OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from infer_dev.chat import BlockingLlamaCppClient

TIMEOUT_S = 300.0
"""A long prompt on a slow machine takes minutes before the first token."""


def chat(
    name: str | None = None,
    *,
    prompt: str | None = None,
    system: str = "",
    url: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    timeout_s: float = TIMEOUT_S,
    as_json: bool = False,
) -> int:
    """Ask a model: once, with `prompt` or what stdin has, or in turns at a terminal.

    Args:
        name: the instance; None: the only one that is ready.
        prompt: the question; "-": it is on stdin.
        system: the instruction before it.
        url: a server instead of an instance.
        max_tokens: the longest answer; None: the server's own limit.
        temperature: None: the server's own.
        timeout_s: how long to wait for the next word.
        as_json: print the answer as one JSON object, with usage and timings.
    """
    if prompt is None and sys.stdin.isatty():
        if as_json:
            raise UsageError("cannot print JSON of a conversation", hint="ask once: -p PROMPT --json")
        from infer_dev.cli.chat.turns import Turns  # noqa: PLC0415 - rich and readline

        called, address = chosen_address(name, url, timeout_s)
        with blocking_client(address, timeout_s) as client:
            head = (Message("system", system),) if system else ()
            first = ChatRequest(messages=head, max_tokens=max_tokens, temperature=temperature)
            return Turns(client, called, first, is_url=url is not None, timeout_s=timeout_s).run()
    text = _stdin() if prompt is None or prompt == "-" else _argument(prompt)
    if not text.strip():
        raise UsageError("cannot ask nothing: the prompt is empty", hint="give -p PROMPT, or write it to stdin")
    request = ChatRequest.ask(text, system=system, max_tokens=max_tokens, temperature=temperature)
    with blocking_client(chosen_address(name, url, timeout_s)[1], timeout_s) as client:
        return _print_json(client, request) if as_json else _print_text(client, request)


def _argument(text: str) -> str:
    """An argument whose bytes that are no text are shown as such, as those of stdin are."""
    return os.fsencode(text).decode("utf-8", "replace")


def _stdin() -> str:
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _print_json(client: BlockingLlamaCppClient, request: ChatRequest) -> int:
    """Streamed all the same: a long answer needs no longer time limit than a short one.

    One that breaks off is printed as far as it has come; its `finish_reason` is empty.
    """
    has_come = False
    with client.chat_stream(request) as stream:
        try:
            for _ in stream:
                has_come = True
        finally:
            if has_come:
                print(json.dumps(response_as_json(stream.response), indent=2))
    return EXIT_OK


def _print_text(client: BlockingLlamaCppClient, request: ChatRequest) -> int:
    """The text as it comes; tool calls as lines of JSON behind it."""
    terminal = is_terminal(sys.stdout)
    ends_line = True
    with client.chat_stream(request) as stream:
        try:
            for event in stream:
                if isinstance(event, ContentDelta):
                    write(sanitized(event.text, terminal=terminal))
                    ends_line = event.text.endswith("\n")
        finally:
            if not ends_line:
                write("\n")
        for call in stream.response.tool_calls:
            write(json.dumps({"name": call.name, "arguments": call.arguments}) + "\n")
    return EXIT_OK


def write(text: str) -> None:
    """Write at once, whatever the locale can show."""
    sys.stdout.buffer.write(text.encode(sys.stdout.encoding or "utf-8", "replace"))
    sys.stdout.buffer.flush()
