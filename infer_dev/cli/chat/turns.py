"""A conversation at a terminal: what is typed, and the answers."""

from __future__ import annotations

import io
import json
import os
import readline
import signal
import sys
from dataclasses import replace

from rich.console import Console

from infer_dev.chat import Message
from infer_dev.chat.instance import instances
from infer_dev.cli.chat.live import show_answer
from infer_dev.cli.chat.server import blocking_client, chosen_address
from infer_dev.errors import EXIT_OK, InferDevError
from infer_dev.host.printable import printable, printable_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from infer_dev.chat import BlockingLlamaCppClient, ChatRequest, ChatResponse

PROMPT = "> "
LEAVE = ("/quit", "/exit")
HELP = """\
/model [NAME]   talk to another instance; without NAME: which there are
/system [TEXT]  the instruction before the conversation; without TEXT: none
/clear          forget the conversation, not the instruction
/save FILE      write the conversation as Markdown, or as JSON if FILE ends with .json
/help           this text
/quit           leave, as Ctrl-D does
Ctrl-C stops an answer."""


class Turns:
    """A conversation with one server after another.

    Args:
        client: the server's.
        called: its instance's name, or its address.
        first: how to ask; its messages are the instruction, if there is one.
        is_url: the server was given by its address.
        timeout_s: how long to wait for the next word.
    """

    def __init__(
        self, client: BlockingLlamaCppClient, called: str, first: ChatRequest, *, is_url: bool, timeout_s: float
    ) -> None:
        self._client = client
        self._called = called
        self._request = first
        self._is_url = is_url
        self._timeout_s = timeout_s
        self._console = Console(highlight=False)

    def run(self) -> int:
        """Until the user leaves."""
        for stream in (sys.stdin, sys.stdout):
            if isinstance(
                stream, io.TextIOWrapper
            ):  # what is no text of the locale's, or half a surrogate pair, is "?"
                stream.reconfigure(errors="replace")
        signal.signal(signal.SIGTERM, _leave)
        self._say(f"{self._called}; /help tells what can be typed, Ctrl-D leaves")
        try:
            while (line := self._read()) is not None and line.strip() not in LEAVE:
                if line.strip():
                    self._take(line)
        finally:
            self._client.close()
        return EXIT_OK

    def _read(self) -> str | None:
        """A line; "" where Ctrl-C has thrown it away; None at the end."""
        try:
            return input(PROMPT)
        except KeyboardInterrupt:
            self._console.print()
            return ""
        except EOFError:
            self._console.print()
            return None

    def _take(self, line: str) -> None:
        """Do what was typed. What goes wrong is told, and the conversation goes on."""
        try:
            if line.startswith("/"):
                self._command(line)
            else:
                self._ask(line)
        except KeyboardInterrupt:  # where it waits for something else than an answer
            self._say("stopped")
        except InferDevError as err:
            print(f"infer-dev: {printable(err.message)}", file=sys.stderr)
            if err.hint:
                print(f"  hint: {printable(err.hint)}", file=sys.stderr)

    def _ask(self, text: str) -> None:
        asked = (*self._request.messages, Message("user", text))
        with self._client.chat_stream(replace(self._request, messages=asked)) as stream:
            response, is_stopped = show_answer(self._console, stream)
        if response.content or response.tool_calls:
            self._request = replace(self._request, messages=(*asked, response.message))
        self._say(figures(response) + ("; stopped" if is_stopped else ""))

    def _command(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        match word:
            case "/model":
                self._model(rest)
            case "/system":
                others = [one for one in self._request.messages if one.role != "system"]
                head = [Message("system", rest)] if rest else []
                self._request = replace(self._request, messages=(*head, *others))
                self._say("instruction set" if rest else "no instruction")
            case "/clear":
                head = [one for one in self._request.messages if one.role == "system"]
                self._request = replace(self._request, messages=tuple(head))
                self._say("conversation forgotten")
            case "/save":
                self._save(rest)
            case "/help":
                self._say(HELP)
            case _:
                self._say(f"cannot do {printable_line(word)}: there is no such command; /help tells which there are")

    def _model(self, name: str) -> None:
        if name:
            self._called, address = chosen_address(name, None, self._timeout_s)
            self._client.close()
            self._client = blocking_client(address, self._timeout_s)
            self._is_url = False
            self._say(f"now {self._called}, with the conversation so far")
        elif self._is_url:
            self._say("\n".join(printable_line(one.id) for one in self._client.models()))
        else:
            lines = [f"{'*' if one.name == self._called else ' '} {one.name}  {one.state}" for one in instances()]
            self._say("\n".join(map(printable_line, lines)))

    def _save(self, path: str) -> None:
        if not path:
            self._say("cannot save: name a file: /save FILE")
            return
        messages = self._request.messages
        if path.endswith(".json"):
            plain = [{"role": one.role, "content": one.content} for one in messages]
            text = json.dumps(plain, ensure_ascii=False, indent=2) + "\n"
        else:
            text = "\n".join(f"## {one.role}\n\n{one.content}\n" for one in messages)
        try:
            # A conversation may be private; an older file keeps its mode.
            with open(os.open(os.path.expanduser(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(text.encode("utf-8", "replace"))
        except OSError as err:
            self._say(f"cannot write {printable_line(path)}: {err.strerror}")
        else:
            self._say(f"{len(messages)} messages written to {printable_line(path)}")

    def _say(self, text: str) -> None:
        self._console.print(text, style="dim", markup=False)


def _leave(number: int, _: object) -> NoReturn:
    """End in good order: an answer that grows has hidden the cursor."""
    raise SystemExit(128 + number)


def figures(response: ChatResponse) -> str:
    """How much, how fast; by the server's own clock."""
    parts = []
    if response.usage:
        parts.append(f"{response.usage.completion_tokens} tokens")
    if response.timings and response.timings.predicted_per_s:
        parts.append(f"{response.timings.predicted_per_s:.1f} tokens/s")
    if response.timings and response.timings.prompt_per_s:
        parts.append(f"prompt {response.timings.prompt_per_s:.0f} tokens/s")
    if response.finish_reason not in ("", "stop"):
        parts.append(f"ended by: {printable_line(response.finish_reason)}")
    return ", ".join(parts) or "no figures"


# readline gives input() its line editing and history. What is pasted comes as one line; without this a line feed in
# it would send its first part alone.
readline.parse_and_bind("set enable-bracketed-paste on")
