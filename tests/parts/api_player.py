"""Plays the daemon's API on a unix socket, with answers that a test sets: our own HTTP server over other routes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from infer_dev.api.http import Handler, Request, Response, Router, json_response
from infer_dev.api.server import HttpServer
from infer_dev.errors import InferDevError, NotFoundError

Json = dict[str, Any]  # Any: JSON


def instance(name: str, state: str = "ready", **other: object) -> Json:
    """An instance as `/status` tells it."""
    base: Json = {
        "name": name,
        "state": state,
        "state_s": 5.0,
        "due_in_s": None,
        "pid": 100 if state == "ready" else None,
        "port": 8080,
        "host": "127.0.0.1",
        "alias": None,
        "model": f"/llm-models/{name}-Q4_K_M.gguf",
        "gpu_ids": None,
        "restarts": 0,
        "uptime_s": 4000.0 if state == "ready" else None,
        "rss_bytes": 3 << 30 if state == "ready" else None,
        "gpu_memory_bytes": None,
        "cause": None,
        "detail": "",
        "note": "",
        "group": None,
        "source": "/etc/rack.toml",
        "log_tail": [],
    }
    return base | other


def event(number: int, name: str, new: str, **other: object) -> Json:
    """A record as `/events` tells it."""
    base: Json = {"id": number, "time": f"2026-11-21T16:10:{number % 60:02}.000+00:00", "kind": "transition"}
    rest: Json = {"instance": name, "old": "ready", "new": new, "after_s": 1.5, "cause": None, "detail": ""}
    return base | rest | {"log_tail": []} | other


def finding(level: str, message: str, **other: object) -> Json:
    """A finding as `/check` tells it."""
    base: Json = {"level": level, "code": "bad-argument", "instance": "chat", "file": "/etc/rack.toml", "line": 14}
    return base | {"key": "instance.chat.server.ctx_sise", "message": message, "hint": ""} | other


class ApiPlayer:
    """The answers, and what was asked.

    Attributes:
        posts: action (with the instance) and body of each POST, in order.
        phases: event and data of the stream that a switch is answered with.
        refusal: if set, what every POST is answered with.
        gate: while it is clear, no plan and no list of models is answered.
        report: what a check is answered with; an error is raised.
        checks: the bodies of those asked for; not among `posts`.
        check_gate: while it is clear, no check is answered.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.instances: list[Json] = []
        self.host: Json = {}
        self.switch: Json | None = None
        self.events: list[Json] = []
        self.logs: dict[str, bytearray] = {}
        self.models: list[Json] = []
        self.plan: Json = {"enabled": True}
        self.phases: list[tuple[str, Json]] = []
        self.metrics = ""
        self.posts: list[tuple[str, Json]] = []
        self.tokens: list[str] = []
        self.refusal: InferDevError | None = None
        self.gate, self.check_gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.check_gate.set()
        self.report: Json | InferDevError = {"findings": [], "binary": "/bin/llama-server"}
        self.checks: list[Json] = []
        self._http: HttpServer | None = None
        self._server: asyncio.Server | None = None

    def router(self) -> Router:
        router = Router()
        router.add("GET", "/status", self._status)
        router.add("GET", "/events", self._events)
        router.add("GET", "/logs/{name}", self._logs)
        router.add("GET", "/models", self._models)
        router.add("GET", "/metrics", self._metrics)
        router.add("POST", "/plan", self._posted("plan", lambda: json_response(self.plan)))
        router.add("POST", "/check", self._check)
        done = {"files": {"/etc/rack.toml": {"changes": {"new": ["a"], "gone": [], "unchanged": ["b"]}}}}
        router.add("POST", "/reload", self._posted("reload", lambda: json_response(done)))
        router.add("POST", "/switch", self._posted("switch", self._switch))
        for action in ("start", "stop", "restart"):
            router.add("POST", f"/instances/{{name}}/{action}", self._posted(action, self._done))
        return router

    async def open(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._http = HttpServer(self.router())
        self._server = await asyncio.start_unix_server(self._http.serve_connection, self.socket)

    async def open_tcp(self) -> str:
        """Answers over TCP; the URL."""
        self._http = HttpServer(self.router())
        self._server = await asyncio.start_server(self._http.serve_connection, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """As a daemon that ends: its streams do, too."""
        if self._server is not None and self._http is not None:
            self._server.close()
            self._server = None
            await self._http.close()

    async def _status(self, request: Request) -> Response:
        self.tokens.append(request.headers.get("authorization", ""))
        daemon = {"version": "0.1.0", "config": "/etc/rack.toml", "api_note": "", "switch": self.switch}
        return json_response({"daemon": daemon, "instances": self.instances, **self.host})

    async def _events(self, request: Request) -> Response:
        return Response(self._stream(request), content_type="text/event-stream")

    async def _stream(self, request: Request) -> AsyncIterator[bytes]:
        last = int(request.query.get("after", "0"))
        while True:
            for one in list(self.events):
                if one["id"] > last:
                    last = one["id"]
                    yield f"id: {last}\nevent: {one['kind']}\ndata: {json.dumps(one)}\n\n".encode()
            if request.query.get("follow") == "0" or self._server is None:
                return
            await asyncio.sleep(0.01)

    async def _logs(self, request: Request) -> Response:
        if request.path["name"] not in self.logs:
            raise NotFoundError("cannot find it")
        return Response(self._log(self.logs[request.path["name"]]), content_type="text/plain")

    async def _log(self, log: bytearray) -> AsyncIterator[bytes]:
        sent = 0
        while self._server is not None:
            if sent < len(log):
                piece = bytes(log[sent:])
                sent += len(piece)
                yield piece
            await asyncio.sleep(0.01)

    async def _models(self, _: Request) -> Response:
        await self.gate.wait()
        return json_response({"models": self.models})

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.encode(), content_type="text/plain")

    async def _check(self, request: Request) -> Response:
        self.checks.append(json.loads(request.body))
        await self.check_gate.wait()
        if isinstance(self.report, InferDevError):
            raise self.report
        return json_response(self.report)

    def _switch(self) -> Response:
        return Response(self._phases(), content_type="text/event-stream")

    def _done(self) -> Response:
        return json_response({"states": {}, "last_id": 0})

    def _posted(self, action: str, answer: Callable[[], Response]) -> Handler:
        async def handle(request: Request) -> Response:
            words = [action, *request.path.values()]
            self.posts.append((" ".join(words), json.loads(request.body or b"{}")))
            if self.refusal is not None:
                raise self.refusal
            if action == "plan":
                await self.gate.wait()
            return answer()

        return handle

    async def _phases(self) -> AsyncIterator[bytes]:
        for name, data in self.phases:
            yield f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


@asynccontextmanager
async def playing(folder: Path) -> AsyncIterator[ApiPlayer]:
    """A player that answers in a folder."""
    player = ApiPlayer(folder / "control.sock")
    await player.open()
    try:
        yield player
    finally:
        await player.close()
