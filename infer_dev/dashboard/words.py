"""Figures as short words for a screen that is narrow."""

from collections.abc import Iterable

from rich.text import Text

STEP = 1024
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
KILO = 1000
TEN = 10
STEPS = "▁▂▃▄▅▆▇█"


def size(count: float | None) -> str:
    """Bytes in powers of 1024: 512B, 3.1G; "-" for None."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "K", "M", "G"):
        if value < STEP:
            return f"{value:.0f}{unit}" if unit in "BK" or value >= STEP / TEN else f"{value:.1f}{unit}"
        value /= STEP
    return f"{value:.1f}T"


def count(number: int | None) -> str:
    """A number of tokens: 512, 16k, 1.0M; "-" for None."""
    if number is None:
        return "-"
    if number < KILO * TEN:
        return str(number)
    return f"{number / STEP:.0f}k" if number < KILO * KILO else f"{number / KILO / KILO:.1f}M"


def duration(seconds: float | None) -> str:
    """Seconds: 4s, 4m12s, 3h05m, 2d04h; "-" for None."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < MINUTE_S:
        return f"{whole}s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S}m{whole % MINUTE_S:02}s"
    if whole < DAY_S:
        return f"{whole // HOUR_S}h{whole % HOUR_S // MINUTE_S:02}m"
    return f"{whole // DAY_S}d{whole % DAY_S // HOUR_S:02}h"


def percent(part: float | None) -> str:
    """A ratio as a percentage; "-" for None."""
    return "-" if part is None else f"{part * 100:.0f}%"


def bar(parts: list[tuple[float, str]], width: int) -> Text:
    """Parts of a whole (0 to 1, each with its style) as one bar of `width` cells; what is left is dots.

    Neighbours differ by their pattern, too: where there is no colour they can be told apart.
    """
    drawn = Text(no_wrap=True)
    done, at = 0.0, 0
    for index, (part, style) in enumerate(parts):
        done = min(1.0, done + max(0.0, part))
        cells = max(0, round(done * width) - at)
        drawn.append(("█", "▓")[index % 2] * cells, style)
        at += cells
    return drawn.append("·" * (width - at), "dim")


def sparkline(samples: Iterable[tuple[float, float]], *, now: float, span_s: float, width: int) -> str:
    """The `span_s` seconds before `now` in `width` cells, each the mean of its part; blank where nothing is known.

    Args:
        samples: time and value (0 to 1).
        now: the end, on the same clock.
        span_s: how far back.
        width: cells.
    """
    parts: list[list[float]] = [[] for _ in range(width)]
    for at, value in samples:
        index = width - 1 - int((now - at) / span_s * width)
        if 0 <= index < width:
            parts[index].append(value)
    means = [sum(part) / len(part) if part else None for part in parts]
    return "".join(" " if mean is None else STEPS[min(len(STEPS) - 1, int(mean * len(STEPS)))] for mean in means)
