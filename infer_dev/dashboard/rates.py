"""How busy each instance is, out of two scrapes of `/metrics`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

WANTED = re.compile(
    r"^llamacpp:(requests_processing|requests_deferred|n_decode_total|tokens_predicted_total)"
    r'\{[^}]*?instance="((?:[^"\\]|\\.)*)"[^}]*\} (\S+)',
    re.MULTILINE,
)
ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one instance does now. `tokens_per_s` None: not known yet."""

    running: int = 0
    waiting: int = 0
    tokens_per_s: float | None = None


Counted = Mapping[str, Mapping[str, float]]


def read_counts(text: str) -> Counted:
    """Instance → name → value, of those families that tell how busy a llama-server is."""
    found: dict[str, dict[str, float]] = {}
    for family, instance, value in WANTED.findall(text):
        name = ESCAPED.sub(lambda one: "\n" if one[1] == "n" else str(one[1]), instance)
        try:
            found.setdefault(name, {})[family] = float(value)
        except ValueError:
            continue
    return found


def loads(before: Counted, now: Counted, seconds: float) -> dict[str, Load]:
    """The load of each instance that tells of itself; `seconds` between the two scrapes.

    llama-server counts the tokens of a request only at its end (`tokens_predicted_total`); `n_decode_total` moves
    with each step, which makes one token for each request that runs. So that is taken while some run.
    """
    found = {}
    for name, counts in now.items():
        old = before.get(name)
        running = counts.get("requests_processing", 0.0)
        speed = None
        if old is not None and seconds > 0:
            steps = counts.get("n_decode_total", 0.0) - old.get("n_decode_total", 0.0)
            ended = counts.get("tokens_predicted_total", 0.0) - old.get("tokens_predicted_total", 0.0)
            at_once = (running + old.get("requests_processing", 0.0)) / 2
            speed = max(0.0, steps * at_once if at_once else ended) / seconds
        waiting = counts.get("requests_deferred", 0.0)
        found[name] = Load(running=int(running), waiting=int(waiting), tokens_per_s=speed)
    return found
