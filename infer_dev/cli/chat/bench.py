"""`infer-dev bench`."""

from __future__ import annotations

import asyncio
import json
import sys

from infer_dev.chat import LlamaCppClient
from infer_dev.chat.load import Level, levels_to, measure_level, percentile, words_for
from infer_dev.cli.chat.server import chosen_address, key_of
from infer_dev.cli.text import columns, is_terminal
from infer_dev.errors import EXIT_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PARALLEL = 4
LEAST_REQUESTS = 5
TIMEOUT_S = 300.0
BAR_CELLS = 40
PERCENTS = (10, 50, 90, 99)
PERCENTILES_OF = ("first_s", "total_s", "prompt_per_s", "predicted_per_s")
HEADERS = (
    *("PARALLEL", "REQUESTS", "TOKENS/S", "EACH p50", "EACH p10", "FIRST p50", "FIRST p90", "FIRST p99"),
    "PROMPT/S p50",
)


def bench(
    name: str | None = None,
    *,
    url: str | None = None,
    parallel: int | None = None,
    requests: int | None = None,
    prompt_tokens: int = 512,
    max_tokens: int = 128,
    timeout_s: float = TIMEOUT_S,
    as_json: bool = False,
) -> int:
    """Measure a server at 1, 2, 4, … requests at once.

    Args:
        name: the instance; None: the only one that is ready.
        url: a server instead of an instance.
        parallel: up to so many at once.
        requests: how many at each level; None: twice the level, five at least.
        prompt_tokens: of each request, about.
        max_tokens: of each answer.
        timeout_s: how long to wait for the next token.
        as_json: print every sample.
    """
    called, address = chosen_address(name, url, timeout_s)

    levels: list[Level] = []

    async def measure() -> None:
        async with LlamaCppClient(address, key_of(), timeout_s, load_wait_s=timeout_s) as client:
            words = await words_for(client, prompt_tokens)
            # The first is never like the rest.
            await measure_level(client, 1, requests=1, prompt_words=words, max_tokens=1)
            for level in levels_to(parallel or PARALLEL):
                _progress(f"{called}: {level} at once")
                count = requests or max(LEAST_REQUESTS, 2 * level)
                levels.append(
                    await measure_level(client, level, requests=count, prompt_words=words, max_tokens=max_tokens)
                )

    try:
        asyncio.run(measure())
    finally:  # where it ends early: what was measured until then, which may have taken minutes
        if levels:
            _print(called, address, levels, as_json=as_json)
    return EXIT_OK


def _print(called: str, address: str, levels: Sequence[Level], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"server": called, "url": address, "levels": [to_json(one) for one in levels]}, indent=2))
        return
    print(columns([list(HEADERS), *(row(one) for one in levels)]))
    if is_terminal(sys.stdout):
        print(f"\n{plot(levels)}")


def row(level: Level) -> list[str]:
    """A level as cells under HEADERS."""
    each = [one.predicted_per_s for one in level.samples]
    first = [one.first_s for one in level.samples]
    return [
        str(level.parallel),
        str(len(level.samples)),
        f"{level.total_per_s:.1f}",
        *(f"{percentile(each, percent):.1f}" for percent in (50, 10)),
        *(f"{percentile(first, percent) * 1000:.0f} ms" for percent in (50, 90, 99)),
        f"{percentile([one.prompt_per_s for one in level.samples], 50):.0f}",
    ]


def plot(levels: Sequence[Level]) -> str:
    """Speed and waiting by level, as bars."""
    speeds = [level.total_per_s for level in levels]
    waits = [percentile([one.first_s for one in level.samples], 50) * 1000 for level in levels]
    names = [str(level.parallel) for level in levels]
    parts = ("tokens/s, all together", bars(names, speeds, ".1f"), "", "ms to the first token, p50")
    return "\n".join([*parts, bars(names, waits, ".0f")])


def bars(names: Sequence[str], values: Sequence[float], form: str) -> str:
    """A line for each value, in eighths of a cell."""
    width, most = max(map(len, names)), max(values)
    lines = []
    for name, value in zip(names, values, strict=True):
        eighths = round(value / most * BAR_CELLS * 8) if most > 0 else 0
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        lines.append(f"{name:>{width}} {bar} {value:{form}}")
    return "\n".join(lines)


def to_json(level: Level) -> dict[str, object]:
    """A level with all its samples."""
    names = ("first_s", "total_s", "prompt_tokens", "predicted_tokens", "prompt_per_s", "predicted_per_s")
    samples = [{name: getattr(one, name) for name in names} for one in level.samples]
    return {
        "parallel": level.parallel,
        "wall_s": level.wall_s,
        "total_per_s": level.total_per_s,
        "percentiles": {name: _percentiles([getattr(one, name) for one in level.samples]) for name in PERCENTILES_OF},
        "samples": samples,
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{percent}": percentile(values, percent) for percent in PERCENTS}


def _progress(text: str) -> None:
    if is_terminal(sys.stderr):
        print(f"measuring {text}", file=sys.stderr)
