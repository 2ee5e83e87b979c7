"""The client for programs with an event loop. `blocking_client` is its twin for those without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infer_dev.chat import calls
from infer_dev.chat.endpoint import parse_endpoint
from infer_dev.chat.instance import address_of
from infer_dev.chat.session import Session
from infer_dev.chat.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from infer_dev.chat.conversation import ChatResponse
    from infer_dev.chat.endpoint import Endpoint
    from infer_dev.chat.network import Connection
    from infer_dev.chat.reply import ChatStreamEvent, Completion, Embeddings, Health, ServedModel
    from infer_dev.chat.request import ChatRequest

TIMEOUT_S = 60.0
MAX_TOKENS = 512


class ChatStream:
    """The events of an answer, for `async for`; the last is `Finished`.

    Leaving the iteration, by `break`, an exception or the task's cancelling, closes the connection, so that the
    server stops.
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def response(self) -> ChatResponse:
        """What has come by now."""
        return self._stream.response

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatStreamEvent:
        event = await self._stream.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Stop the answer, if it has not ended."""
        self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


class LlamaCppClient:
    """A client of one llama-server, or of any server with the same HTTP interface.

    Connections are used again; `async with`, or `aclose`, closes those that idle. Any number of tasks may share it.

    Args:
        endpoint: `http://127.0.0.1:8080`; https, and `unix:PATH`, as well.
        auth_token: its API key, if it wants one.
        timeout_s: how long a whole answer may take, or in a stream the next event; pings of the server are none.
        load_wait_s: how long to wait for a server that is still loading its model, instead of `LoadingError`.

    Raises:
        RequestError: the endpoint is none. All methods raise `ChatError`, each kind its own type (`chat.errors`).
    """

    def __init__(
        self, endpoint: str, auth_token: str | None = None, timeout_s: float = TIMEOUT_S, *, load_wait_s: float = 0.0
    ) -> None:
        self._session = Session(parse_endpoint(endpoint), auth_token, timeout_s, load_wait_s, _Network())
        self.endpoint = endpoint

    @classmethod
    def for_instance(
        cls, name: str, auth_token: str | None = None, timeout_s: float = TIMEOUT_S, *, load_wait_s: float = 0.0
    ) -> Self:
        """The client of an instance, by its name or alias; the daemon is asked where it is, which takes milliseconds.

        Raises:
            UnavailableError: no daemon answers.
            NotFoundError: there is no such instance.
            InstanceError: it does not run.
        """
        return cls(address_of(name), auth_token, timeout_s, load_wait_s=load_wait_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that idle."""
        self._session.close()

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """The whole answer to a conversation."""
        return await calls.chat(self._session, request)

    def chat_stream(self, request: ChatRequest) -> ChatStream:
        """The answer to a conversation as it comes."""
        return ChatStream(Stream(self._session, calls.chat_stream_call(request)))

    async def generate(
        self,
        prompt: str,
        max_tokens: int = MAX_TOKENS,
        *,
        temperature: float | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> Completion:
        """How a text goes on, without any chat template.

        Args:
            prompt: the text.
            max_tokens: the most that is added.
            temperature: of the sampling; None: the server's own.
            stop: a text, or several, at which it ends.
            seed: of the sampling, to get the same once more.
            extra: other fields of llama-server's `/completion`.
        """
        return await calls.generate(
            self._session,
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=stop,
            seed=seed,
            extra=extra or {},
        )

    async def health_check(self) -> Health:
        """Whether it serves. A server that is loading is told, one that is not there is `NotRunningError`."""
        return await calls.health_check(self._session)

    async def models(self) -> tuple[ServedModel, ...]:
        """What is served."""
        return await calls.models(self._session)

    async def embed(self, texts: str | Sequence[str]) -> Embeddings:
        """The vectors of one text or several; the server must have been started for it (`embeddings = true`)."""
        return await calls.embed(self._session, texts)

    async def count_tokens(self, what: str | ChatRequest) -> int:
        """How many tokens a text has, or the prompt that a conversation becomes by the model's template."""
        return await calls.count_tokens(self._session, what)


class _Network:
    """The event loop's, imported with the first connection: asyncio is half of what this package costs."""

    async def connect(self, endpoint: Endpoint, deadline: float) -> Connection:
        from infer_dev.chat.looping import LoopNetwork  # noqa: PLC0415 - see above

        return await LoopNetwork().connect(endpoint, deadline)

    async def sleep(self, seconds: float) -> None:
        from asyncio import sleep  # noqa: PLC0415 - as above

        await sleep(seconds)
