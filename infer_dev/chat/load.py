"""How fast a server answers, alone and several at once, as its clients see it."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infer_dev.chat.conversation import ChatError, ChatResponse, Message
from infer_dev.chat.errors import AnswerError, ServerError
from infer_dev.chat.reply import Finished
from infer_dev.chat.request import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infer_dev.chat.client import LlamaCppClient

SAMPLE_WORDS = 200
TOKENS_PER_WORD = 1.4  # of the words below, where a server does not count tokens
WORDS = (
    *("apple", "river", "stone", "cloud", "table", "green", "music", "paper", "window", "garden", "silver", "button"),
    *("market", "bridge", "candle", "forest", "letter", "mirror", "orange", "pocket", "quiet", "rocket", "summer"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request.

    Attributes:
        first_s: from sending it to the first token, seconds.
        total_s: to the end.
        prompt_tokens, predicted_tokens: as the server counts.
        prompt_per_s, predicted_per_s: tokens a second, by the server's clock, or else by ours.
    """

    first_s: float
    total_s: float
    prompt_tokens: int
    predicted_tokens: int
    prompt_per_s: float
    predicted_per_s: float


@dataclass(frozen=True, slots=True)
class Level:
    """So many requests at once, until all were answered after `wall_s` seconds."""

    parallel: int
    wall_s: float
    samples: Sequence[Sample]

    @property
    def total_per_s(self) -> float:
        """Generated tokens a second, all requests together."""
        return sum(one.predicted_tokens for one in self.samples) / self.wall_s if self.wall_s > 0 else 0.0


def levels_to(most: int) -> list[int]:
    """1, 2, 4, …, and `most` itself."""
    return [*itertools.takewhile(lambda level: level < most, (1 << step for step in range(32))), most]


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank: so many percent of the values are not above it."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


async def words_for(client: LlamaCppClient, tokens: int) -> int:
    """How many of our words make about so many tokens."""
    try:
        counted = await client.count_tokens(_text(random.Random(0), SAMPLE_WORDS))  # noqa: S311 - words to measure with
    except (ServerError, AnswerError):  # not a llama-server
        counted = 0
    return max(1, round(tokens / (counted / SAMPLE_WORDS if counted else TOKENS_PER_WORD)))


async def measure_level(
    client: LlamaCppClient, parallel: int, *, requests: int, prompt_words: int, max_tokens: int
) -> Level:
    """Send `requests`, `parallel` of them at any time.

    Raises:
        ChatError: one of them failed.
    """
    seeds = iter(range(requests))
    samples: list[Sample] = []
    begun = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(parallel, requests)):
                group.create_task(_work(client, seeds, samples, prompt_words, max_tokens))
    except ExceptionGroup as errors:
        first = errors.exceptions[0]
        if isinstance(first, ChatError):
            raise first from errors
        raise
    return Level(parallel, time.monotonic() - begun, samples)


async def _work(
    client: LlamaCppClient, seeds: Iterator[int], samples: list[Sample], prompt_words: int, max_tokens: int
) -> None:
    for seed in seeds:
        text = _text(random.Random(f"{time.time_ns()} {seed}"), prompt_words)  # noqa: S311 - no two are alike
        samples.append(await _sample(client, _request(text, max_tokens)))


async def _sample(client: LlamaCppClient, request: ChatRequest) -> Sample:
    begun = time.monotonic()
    first = last = 0.0
    pieces = 0
    response: ChatResponse | None = None
    async for event in client.chat_stream(request):
        if isinstance(event, Finished):
            response = event.response
        else:
            last = time.monotonic()
            first = first or last
            pieces += 1
    ended = time.monotonic()
    usage, timings = (response.usage, response.timings) if response else (None, None)
    first = first or ended
    predicted = usage.completion_tokens if usage else pieces
    prompt = usage.prompt_tokens if usage else 0
    first_s, after_s = first - begun, last - first
    return Sample(
        first_s=first_s,
        total_s=ended - begun,
        prompt_tokens=prompt,
        predicted_tokens=predicted,
        prompt_per_s=timings.prompt_per_s if timings else prompt / first_s if first_s > 0 else 0.0,
        predicted_per_s=timings.predicted_per_s if timings else (pieces - 1) / after_s if after_s > 0 else 0.0,
    )


def _request(text: str, max_tokens: int) -> ChatRequest:
    """A request that is computed in full: nothing of the prompt is cached, and the answer has its full length."""
    extra = {"cache_prompt": False, "ignore_eos": True}
    return ChatRequest(messages=(Message("user", text),), max_tokens=max_tokens, extra=extra)


def _text(source: random.Random, words: int) -> str:
    return " ".join(source.choices(WORDS, k=words))
