"""What can be asked of a llama-server, as coroutines for both clients."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from infer_dev.chat.conversation import ChatResponse, RequestError
from infer_dev.chat.errors import LoadingError
from infer_dev.chat.exchange import Call
from infer_dev.chat.read import chat_response, completion, embeddings, served_models, token_count
from infer_dev.chat.reply import Health
from infer_dev.chat.request import ChatRequest, chat_body, texts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infer_dev.chat.reply import Completion, Embeddings, ServedModel
    from infer_dev.chat.session import Session

CHAT = "/v1/chat/completions"


async def chat(session: Session, request: ChatRequest) -> ChatResponse:
    """The whole answer to a conversation."""
    return chat_response(await session.json(_post(CHAT, chat_body(request, stream=False))))


def chat_stream_call(request: ChatRequest) -> Call:
    """The call whose answer is a stream."""
    return _post(CHAT, chat_body(request, stream=True))


async def generate(
    session: Session,
    prompt: str,
    *,
    max_tokens: int,
    temperature: float | None,
    stop: str | Sequence[str],
    seed: int | None,
    extra: Mapping[str, object],
) -> Completion:
    """How a text goes on."""
    body: dict[str, object] = {"prompt": prompt, "n_predict": max_tokens, "stream": False}
    if temperature is not None:
        body["temperature"] = temperature
    if stop:
        body["stop"] = texts_of(stop)
    if seed is not None:
        body["seed"] = seed
    return completion(await session.json(_post("/completion", body | dict(extra))))


async def health_check(session: Session) -> Health:
    """Whether it serves; one that loads is an answer, not an error."""
    try:
        body = await session.json(Call("/health", is_repeatable=True))
    except LoadingError as err:
        return Health(is_ready=False, detail=err.server_message)
    return Health(is_ready=True, detail=str(body.get("status", "")))


async def models(session: Session) -> tuple[ServedModel, ...]:
    """What is served."""
    return served_models(await session.json(Call("/v1/models", is_repeatable=True)))


async def embed(session: Session, texts: str | Sequence[str]) -> Embeddings:
    """The vectors of texts."""
    several = texts_of(texts)
    if not several:
        raise RequestError("cannot embed: there is no text", hint="give one or more")
    body = {"input": several, "encoding_format": "float"}
    return embeddings(await session.json(_post("/v1/embeddings", body, is_repeatable=True)), len(several))


async def count_tokens(session: Session, what: str | ChatRequest) -> int:
    """How many tokens a text has, or the prompt that a conversation becomes."""
    if isinstance(what, str):
        call = _post("/tokenize", {"content": what}, is_repeatable=True)
    else:
        body = chat_body(what, stream=False)
        call = _post("/v1/chat/completions/input_tokens", body, is_repeatable=True)
    return token_count(await session.json(call))


def _post(target: str, body: Mapping[str, object], *, is_repeatable: bool = False) -> Call:
    try:
        data = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as err:
        raise RequestError(f"cannot send the request: {err}", hint="only what JSON has can be sent") from err
    return Call(target, data, is_repeatable)
