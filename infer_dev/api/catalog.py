"""`GET /models`: what can be run; and what programs written for the older wrapper's API look for.

That wrapper ran one model at a time. It told `id`, `name`, `speed`, `ctx_size`, `is_bench` and `active` of each that
it knew, and of the one that ran `model`, `model_name`, `state` and `status`.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infer_dev.api.http import Request, Response, json_response
from infer_dev.plan.argv import flag_value
from infer_dev.plan.model import Spec
from infer_dev.supervisor.lifecycle import State
from infer_dev.supervisor.status import Status
from infer_dev.supervisor.supervisor import Supervisor

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 10.0  # a folder of another machine may not answer
CONTEXT_FLAGS = ("--ctx-size", "-c")
CONTEXT_ENV = "LLAMA_ARG_CTX_SIZE"
SERVING = (State.READY, State.DEGRADED)
# The wrapper's words are those of llama-server's /health.
WORDS = {
    State.READY: "ok",
    State.DEGRADED: "error",
    State.FAILED: "error",
    State.BACKOFF: "error",
    State.STARTING: "loading",
    State.STOPPING: "stopping",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a model's files say. `context_tokens` is what it was trained for; `problem` why it cannot be loaded."""

    size_bytes: int | None = None
    context_tokens: int | None = None
    architecture: str | None = None
    quantisation: str | None = None
    problem: str = ""


UNREAD = Facts()


class Catalog:
    """The models of all instances, with what their files say; a file is read once, until it changes."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._known: dict[str, tuple[tuple[int, ...], Facts]] = {}
        self._reading: asyncio.Future[None] | None = None

    async def models(self, _: Request) -> Response:
        """Each instance, in the order of the files, whether it runs or not."""
        specs, statuses = list(self._supervisor.specs().values()), self._supervisor.status()
        await self._read({path for spec in specs if (path := _file_of(spec))})
        known = [self._known.get(_file_of(spec) or "", ((), UNREAD))[1] for spec in specs]
        rows = [model_row(*one) for one in zip(specs, statuses, known, strict=True)]
        return json_response({"models": rows})

    async def _read(self, paths: Iterable[str]) -> None:
        """Know what the files say, as far as that can be had in time. At most one thread is at it."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._read_files, sorted(paths)))
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                await asyncio.shield(self._reading)
        except TimeoutError:
            log.warning("reading the models takes longer than %g s: answered without", READ_TIMEOUT_S)

    def _read_files(self, paths: Sequence[str]) -> None:
        known = {}
        for path in paths:
            identity = _identity(path)
            old = self._known.get(path)
            # One with a problem is read again: another part of it may be there now.
            if old is not None and old[0] == identity and not old[1].problem:
                known[path] = old
            else:
                known[path] = (identity, read_facts(path))
        self._known = known


def read_facts(path: str) -> Facts:
    """What the model at `path` says of itself, all its parts counted."""
    from infer_dev.llama_cpp.gguf.error import GgufError  # noqa: PLC0415 - a daemon that is never asked does without
    from infer_dev.llama_cpp.gguf.model import read_model  # noqa: PLC0415 - as above

    try:
        model = read_model(path)
    except GgufError as err:
        return Facts(problem=str(err))
    return Facts(
        size_bytes=model.size_bytes,
        context_tokens=model.context_tokens,
        architecture=model.architecture or None,
        quantisation=model.quantisation or None,
        problem="; ".join(f"{one.path}: {one.message}" for one in model.problems),
    )


def model_row(spec: Spec, status: Status, facts: Facts) -> dict[str, object]:
    """One entry of `GET /models`, the wrapper's keys first. Its files told of speed and bench runs; ours do not."""
    endpoint = spec.endpoint
    scheme = "https" if endpoint.tls else "http"
    return {
        "id": spec.name,
        "name": spec.alias or spec.name,
        "speed": None,
        "ctx_size": _asked_context(spec) or facts.context_tokens,
        "is_bench": False,
        "active": status.state in SERVING,
        "instance": spec.name,
        "model": spec.model,
        "alias": spec.alias,
        "group": spec.group,
        "state": status.state,
        "port": status.port,
        "url": None
        if endpoint.is_unix
        else f"{scheme}://{_bracketed(endpoint.dial_host)}:{endpoint.port}{endpoint.prefix}",
        "size_bytes": facts.size_bytes,
        "context_tokens": facts.context_tokens,
        "architecture": facts.architecture,
        "quantisation": facts.quantisation,
        "reason": (status.detail if status.state == State.FAILED else "") or facts.problem,
    }


def wrapper_keys(statuses: Sequence[Status]) -> dict[str, str | None]:
    """The one that runs, or else the first, as the wrapper told it in `GET /status`."""
    order = [State.READY, State.DEGRADED, State.STARTING, State.STOPPING]
    ranks = {state: rank for rank, state in enumerate(order)}
    chosen = min(statuses, key=lambda one: ranks.get(State(one.state), len(order)), default=None)
    if chosen is None:
        return {"model": None, "model_name": None, "state": State.STOPPED, "status": State.STOPPED}
    word = WORDS.get(State(chosen.state), State.STOPPED)
    return {"model": chosen.name, "model_name": chosen.alias or chosen.name, "state": chosen.state, "status": word}


def _file_of(spec: Spec) -> str | None:
    """The model's file, if it is one; a repository or an address is not."""
    given = flag_value(spec.command.argv, ("--model", "-m"))
    return os.path.join(spec.command.cwd, given) if given else None


def _identity(path: str) -> tuple[int, ...]:
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(path)
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    return ()


def _asked_context(spec: Spec) -> int | None:
    given = flag_value(spec.command.argv, CONTEXT_FLAGS) or spec.command.env.get(CONTEXT_ENV, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < len("1000000000000") else None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
