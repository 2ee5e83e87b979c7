"""The client for programs without an event loop; but for waiting all is shared with `client`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infer_dev.chat import calls
from infer_dev.chat.blocking import BlockingNetwork, run
from infer_dev.chat.client import MAX_TOKENS, TIMEOUT_S
from infer_dev.chat.endpoint import parse_endpoint
from infer_dev.chat.instance import address_of
from infer_dev.chat.session import Session
from infer_dev.chat.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from infer_dev.chat.conversation import ChatResponse
    from infer_dev.chat.reply import ChatStreamEvent, Completion, Embeddings, Health, ServedModel
    from infer_dev.chat.request import ChatRequest


class BlockingChatStream:
    """The events of an answer, for `for`; as `ChatStream` otherwise."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def response(self) -> ChatResponse:
        """What has come by now."""
        return self._stream.response

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ChatStreamEvent:
        event = run(self._stream.next())
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Stop the answer, if it has not ended."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


class BlockingLlamaCppClient:
    """As `LlamaCppClient`, for programs without an event loop. Threads may share it."""

    def __init__(
        self, endpoint: str, auth_token: str | None = None, timeout_s: float = TIMEOUT_S, *, load_wait_s: float = 0.0
    ) -> None:
        self._session = Session(parse_endpoint(endpoint), auth_token, timeout_s, load_wait_s, BlockingNetwork())
        self.endpoint = endpoint

    @classmethod
    def for_instance(
        cls, name: str, auth_token: str | None = None, timeout_s: float = TIMEOUT_S, *, load_wait_s: float = 0.0
    ) -> Self:
        """The client of an instance, by its name or alias; as `LlamaCppClient.for_instance`."""
        return cls(address_of(name), auth_token, timeout_s, load_wait_s=load_wait_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that idle."""
        self._session.close()

    def chat(self, request: ChatRequest) -> ChatResponse:
        """The whole answer to a conversation."""
        return run(calls.chat(self._session, request))

    def chat_stream(self, request: ChatRequest) -> BlockingChatStream:
        """The answer to a conversation as it comes."""
        return BlockingChatStream(Stream(self._session, calls.chat_stream_call(request)))

    def generate(
        self,
        prompt: str,
        max_tokens: int = MAX_TOKENS,
        *,
        temperature: float | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> Completion:
        """How a text goes on, without any chat template; as `LlamaCppClient.generate`."""
        return run(
            calls.generate(
                self._session,
                prompt,
                max_tokens=max_tokens,
                temperature=temperature,
                stop=stop,
                seed=seed,
                extra=extra or {},
            )
        )

    def health_check(self) -> Health:
        """Whether it serves; as `LlamaCppClient.health_check`."""
        return run(calls.health_check(self._session))

    def models(self) -> tuple[ServedModel, ...]:
        """What is served."""
        return run(calls.models(self._session))

    def embed(self, texts: str | Sequence[str]) -> Embeddings:
        """The vectors of one text or several; as `LlamaCppClient.embed`."""
        return run(calls.embed(self._session, texts))

    def count_tokens(self, what: str | ChatRequest) -> int:
        """How many tokens a text has, or a conversation's prompt."""
        return run(calls.count_tokens(self._session, what))
