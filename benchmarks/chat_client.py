"""`python -m benchmarks.chat_client ours|openai URL STREAMS TOKENS`: prints what a streamed token cost, as JSON."""

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Awaitable, Callable

EXTRA = {"ignore_eos": True, "cache_prompt": False}
PROMPT = "Hello"
WARM_UP_TOKENS = 20

Ask = Callable[[int], Awaitable[list[str]]]


def ours(url: str) -> Ask:
    from infer_dev.chat import ChatRequest, ContentDelta, LlamaCppClient, Message  # noqa: PLC0415 - one of two

    client = LlamaCppClient(url)

    async def ask(tokens: int) -> list[str]:
        request = ChatRequest(messages=[Message("user", PROMPT)], max_tokens=tokens, temperature=0, extra=EXTRA)
        return [event.text async for event in client.chat_stream(request) if isinstance(event, ContentDelta)]

    return ask


def openai(url: str) -> Ask:
    from openai import AsyncOpenAI  # noqa: PLC0415 - one of two

    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none")

    async def ask(tokens: int) -> list[str]:
        stream = await client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": PROMPT}],
            max_tokens=tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=EXTRA,
        )
        return [
            event.choices[0].delta.content
            async for event in stream
            if event.choices and event.choices[0].delta.content
        ]

    return ask


async def measure(ask: Ask, streams: int, tokens: int) -> dict[str, object]:
    await ask(WARM_UP_TOKENS)
    wall, cpu = time.perf_counter(), time.process_time()
    texts = await asyncio.gather(*(ask(tokens) for _ in range(streams)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pieces = sum(map(len, texts))
    return {
        "wall_us": wall / pieces * 1e6,
        "cpu_us": cpu / pieces * 1e6,
        "digest": hashlib.sha256("".join(texts[0]).encode()).hexdigest(),
    }


def main() -> None:
    who, url, streams, tokens = sys.argv[1:]
    kinds = {"ours": ours, "openai": openai}
    print(json.dumps(asyncio.run(measure(kinds[who](url), int(streams), int(tokens)))))


if __name__ == "__main__":
    main()
