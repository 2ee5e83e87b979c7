"""The API's TCP listener: it follows what the files that are up say of it."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from infer_dev.api.guard import Guard
from infer_dev.api.http import Router
from infer_dev.api.server import HttpServer, Limits
from infer_dev.api.token_file import identity, read_token
from infer_dev.errors import ConfigError
from infer_dev.host import ports
from infer_dev.plan.api import Address
from infer_dev.plan.conflicts import overlap
from infer_dev.plan.model import Endpoint
from infer_dev.supervisor.door import Door

log = logging.getLogger(__name__)

BACKLOG = 128
OPEN_TIMEOUT_S = 5.0  # a host that is a name may have to be asked for
RETRY_S = 5.0
FOLLOW_S = 1.0
LIMITS = Limits(body_bytes=256 * 1024)  # plans come over the unix socket


@dataclass(frozen=True, slots=True)
class Target:
    """Where to listen, for whom."""

    endpoint: Endpoint
    token: str | None = field(repr=False)


class TcpListener(Door):
    """Listens where `wanted` says; where that cannot be, `note` says why, and it is tried again."""

    def __init__(
        self,
        router: Router,
        wanted: Callable[[], Address],
        *,
        limits: Limits = LIMITS,
        retry_s: float = RETRY_S,
        follow_s: float = FOLLOW_S,
    ) -> None:
        """Ask `wanted` every `follow_s` while it is followed; what failed is tried again after `retry_s`."""
        self._router = router
        self._wanted = wanted
        self._limits = limits
        self._retry_s = retry_s
        self._follow_s = follow_s
        self._settling = asyncio.Lock()
        self._now: Target | None = None
        self._server: asyncio.Server | None = None
        self._http: HttpServer | None = None
        self._retired: list[HttpServer] = []
        self._failed: Target | None = None
        self._retry_at = 0.0
        self._note = self._fault = ""
        self._token: tuple[str, tuple[int, ...] | None, str, str] = ("", None, "", "")

    @property
    def held(self) -> frozenset[Endpoint]:
        return frozenset() if self._now is None else frozenset({self._now.endpoint})

    @property
    def urls(self) -> tuple[str, ...]:
        return () if self._now is None else (_url(self._now.endpoint),)

    @property
    def note(self) -> str:
        return self._note

    @property
    def fault(self) -> str:
        return self._fault

    @property
    def connections(self) -> int:
        """How many are open."""
        return sum(one.connections for one in (*self._retired, *([self._http] if self._http else [])))

    async def follow(self) -> None:
        """Settle again and again, for good: a port gets free, a token file changes, a file goes down."""
        while True:
            await self.settle()
            await asyncio.sleep(self._follow_s)

    async def settle(self) -> None:
        """Listen where it is wanted now. It costs next to nothing when nothing has changed."""
        try:
            async with self._settling:
                await self._settle()
        except Exception:  # owner: this listener; what goes wrong here must keep no instance from starting
            log.exception("the API's TCP listener failed")

    async def _settle(self) -> None:
        self._retired = [one for one in self._retired if one.connections]
        wanted = self._wanted()
        if wanted.endpoint is None:
            self._leave()
            self._tell(wanted.note, aloud=False)
            return
        try:
            token, note = (wanted.token, "") if wanted.token_file is None else self._read(wanted.token_file)
        except ConfigError as err:  # never without the token that somebody wanted
            self._leave()
            self._tell(f"{err.message}: the API is on its unix socket only; {err.hint}")
            return
        target = Target(wanted.endpoint, token)
        if target != self._now:
            note = await self._move(target) or note
        self._tell(note, aloud=wanted.is_chosen)

    async def close(self) -> None:
        """Listen no more, and end the connections."""
        async with self._settling:
            self._leave()
            for one in self._retired:
                await one.close()

    async def _move(self, target: Target) -> str:
        """Listen there, and nowhere else; returns why that cannot be, or ""."""
        old = self._now
        if old is not None and old.endpoint == target.endpoint:  # only the token is another
            self._serve(target)
            return ""
        if target == self._failed and time.monotonic() < self._retry_at:
            return self._note
        if old is not None and overlap(old.endpoint, target.endpoint):  # they cannot both be open
            self._leave()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                server = await asyncio.start_server(
                    self._accept, target.endpoint.bind_host, target.endpoint.port, backlog=BACKLOG
                )
        except (OSError, TimeoutError, ValueError) as err:  # ValueError: a name that IDNA does not take
            self._leave()
            is_new, self._failed, self._retry_at = target != self._failed, target, time.monotonic() + self._retry_s
            return await self._why_not(target.endpoint, err) if is_new else self._note
        self._failed = None
        self._stop_listening()
        self._server = server
        self._serve(target)
        log.info("the API answers on %s%s", _url(target.endpoint), "" if target.token is None else ", with a token")
        return ""

    async def _why_not(self, endpoint: Endpoint, err: Exception) -> str:
        if isinstance(err, OSError) and not ports.is_free(endpoint):
            reason = f"port {endpoint.port} is taken by {await asyncio.to_thread(ports.holder_of, endpoint.port)}"
        elif isinstance(err, OSError) and err.errno:
            reason = os.strerror(err.errno) if err.errno > 0 else str(err.strerror)
        else:
            reason = f"the address {endpoint.bind_host} is not known"
        return (
            f"cannot listen on {_url(endpoint)}: {reason}; tried again, until then the API is on its unix socket only"
        )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._http is None:  # closed a moment ago
            writer.transport.abort()
        else:
            await self._http.serve_connection(reader, writer)

    def _serve(self, target: Target) -> None:
        """Have new connections served for this target; those of the one before end with their answers."""
        self._retire()
        self._now = target
        self._http = HttpServer(
            self._router, limits=self._limits, check=Guard(target.endpoint.bind_host, target.token)
        )

    def _leave(self) -> None:
        if self._now is not None:
            log.info("the API no longer answers on %s", _url(self._now.endpoint))
        self._stop_listening()
        self._retire()
        self._now = None

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _retire(self) -> None:
        if self._http is not None:
            self._http.retire()
            self._retired.append(self._http)
            self._http = None

    def _read(self, path: str) -> tuple[str, str]:
        """The token of a file, and what to say about it; read anew when the file has changed."""
        found = identity(path)
        known_path, known, token, note = self._token
        if path != known_path or found is None or found != known:
            token, note = read_token(path)
            self._token = (path, found, token, note)
        return token, note

    def _tell(self, note: str, *, aloud: bool = True) -> None:
        if note and note != self._note:
            log.log(logging.WARNING if aloud else logging.INFO, "%s", note)
        self._note, self._fault = note, note if aloud else ""


def _url(endpoint: Endpoint) -> str:
    host = f"[{endpoint.bind_host}]" if ":" in endpoint.bind_host else endpoint.bind_host
    return f"http://{host}:{endpoint.port}"
