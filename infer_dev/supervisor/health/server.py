"""llama-server's ways: what its command line promises, and how to read its answers.

Source: llama.cpp `tools/server` (README, server-context.cpp, server-queue.cpp) and the server of the tests; what was
seen of it is in docs/health.md.
"""

import json
import os
from dataclasses import dataclass
from typing import Any

from infer_dev.plan.argv import OFF_WORDS, api_key_file_of, api_key_of, flag_value, has_flag
from infer_dev.plan.model import Command
from infer_dev.supervisor.health.probe import Reply

UNAVAILABLE = 503
EMBEDDING_FLAGS = ("--embedding", "--embeddings", "--pooling")
EMBEDDING_ENV = ("LLAMA_ARG_EMBEDDINGS", "LLAMA_ARG_POOLING")
RERANK_FLAGS = ("--rerank", "--reranking")
RERANK_ENV = ("LLAMA_ARG_RERANKING",)
METRICS_FLAGS = ("--metrics",)
METRICS_ENV = ("LLAMA_ARG_ENDPOINT_METRICS",)
SLEEP_FLAGS = ("--sleep-idle-seconds",)
KEY_FILE_BYTES = 64 * 1024
# What of a slot moves when tokens do. Builds differ in which of them they show.
_COUNTERS = ("n_prompt_tokens", "n_prompt_tokens_processed", "n_past", "n_decoded")
_METRICS = frozenset({"prompt_tokens_total", "tokens_predicted_total", "n_decode_total", "requests_processing"})


@dataclass(frozen=True, slots=True)
class Look:
    """What a server was doing at one moment.

    Attributes:
        busy: how many requests it works on.
        marks: values of which one or more change with each token.
        spare_slot: the idle slot that holds the shortest prompt: the least is lost by using it.
        spare_tokens: how long that prompt is.
    """

    busy: int
    marks: tuple[object, ...]
    spare_slot: int | None = None
    spare_tokens: float = 0


@dataclass(frozen=True, slots=True)
class Question:
    """The smallest piece of real work: a path and the JSON to post to it."""

    path: str
    body: dict[str, object]

    def encoded(self, slot: int | None) -> bytes:
        """The JSON text; `slot`: where a completion shall be worked on."""
        body = self.body if slot is None or "prompt" not in self.body else {**self.body, "id_slot": slot}
        return json.dumps(body).encode()


def question(command: Command) -> Question:
    """What a server started by `command` can be asked to do: one token, one embedding or one ranking.

    The right one matters: version 0.7.0 started with `--embeddings` dies of a completion (SIGSEGV).
    """
    if _has(command, RERANK_FLAGS, RERANK_ENV):
        return Question("/v1/rerank", {"query": "a", "documents": ["a"]})
    presets = [arg for arg in command.argv if arg.startswith("--embd-") and arg.endswith("-default")]
    if presets or _has(command, EMBEDDING_FLAGS, EMBEDDING_ENV):
        return Question("/embeddings", {"content": "a"})
    return Question("/completion", {"prompt": "a", "n_predict": 1, "cache_prompt": False})


def _has(command: Command, flags: tuple[str, ...], variables: tuple[str, ...]) -> bool:
    given = [command.env[name].lower() for name in variables if name in command.env]
    return has_flag(command.argv, flags) or any(value not in OFF_WORDS for value in given)


def offers_metrics(command: Command) -> bool:
    """Whether a server started by `command` answers `/metrics`."""
    return _has(command, METRICS_FLAGS, METRICS_ENV)


def sleeps_after_s(command: Command) -> float | None:
    """After how long without work the server unloads its model (`--sleep-idle-seconds`); None: never."""
    try:
        seconds = float(flag_value(command.argv, SLEEP_FLAGS) or -1)
    except ValueError:
        return None
    return seconds if seconds >= 0 else None


def api_key(command: Command) -> str | None:
    """A key the server takes: from its arguments, its environment, or the file they name."""
    if key := api_key_of(command.argv, command.env):
        return key
    path = api_key_file_of(command.argv, command.env)
    if path is None:
        return None
    try:
        with open(os.path.join(command.cwd, path), encoding="utf-8") as file:
            lines = file.read(KEY_FILE_BYTES).splitlines()
    except (OSError, UnicodeError):
        return None
    return next((line for line in lines if line and not line.startswith("#")), None)


def is_loading(reply: Reply) -> bool:
    """Whether it says that its model is being loaded."""
    return reply.status == UNAVAILABLE and b"Loading model" in reply.body


def is_sleeping(reply: Reply) -> bool | None:
    """What `/props` says of it; None where it says nothing."""
    found = _json(reply).get("is_sleeping")
    return found if isinstance(found, bool) else None


def slots(reply: Reply) -> Look | None:
    """`/slots`, read; None if it is not what it should be."""
    found = _json(reply).get("list")
    if not isinstance(found, list) or not all(isinstance(slot, dict) for slot in found):
        return None
    busy = [slot for slot in found if slot.get("is_processing")]
    idle = [slot for slot in found if not slot.get("is_processing") and isinstance(slot.get("id"), int)]
    spare = min(idle, key=lambda slot: (_number(slot.get("n_prompt_tokens")), -slot["id"]), default=None)
    marks = tuple(
        (slot.get("id"), slot.get("id_task") if slot.get("is_processing") else None, *_counters(slot))
        for slot in found
    )
    if spare is None:
        return Look(len(busy), marks)
    return Look(len(busy), marks, spare["id"], _number(spare.get("n_prompt_tokens")))


def metrics(reply: Reply) -> Look | None:
    """`/metrics`, read; None if it is not what it should be."""
    values: dict[str, float] = {}
    for line in reply.body.decode(errors="replace").splitlines() if reply.ok else ():
        name, _, value = line.partition(" ")
        name = name.partition(":")[2]
        if name in _METRICS:
            try:
                values[name] = float(value)
            except ValueError:
                return None
    if "requests_processing" not in values:
        return None
    return Look(int(values["requests_processing"]), tuple(sorted(values.items())))


def _counters(slot: dict[str, Any]) -> tuple[float, ...]:  # Any: another program's JSON
    following = slot.get("next_token")
    if isinstance(following, list):
        following = following[0] if following else None
    following = following if isinstance(following, dict) else {}
    return tuple(_number(slot.get(name)) + _number(following.get(name)) for name in _COUNTERS)


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0


def _json(reply: Reply) -> dict[str, Any]:  # Any: as above
    """The answer's object; a list comes as {"list": …}; anything else is empty."""
    if not reply.ok:
        return {}
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, list):
        return {"list": found}
    return found if isinstance(found, dict) else {}
