"""Asks a llama-server over HTTP whether it serves.

`/health` is 503 while the model loads, then 200; it does not wake a sleeping server. It needs no API key, unless the
API has a prefix.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import h11

from infer_dev.plan.model import Endpoint
from infer_dev.supervisor.lifecycle import BecameReady, Event, ProbeFailed, ProbePassed

PROBE_TIMEOUT_S = 5.0
INTERVAL_S = 5.0
FAILURES_BEFORE_DEGRADED = 3
FIRST_POLL_S = 0.005
LONGEST_POLL_S = 0.25
POLL_SHARE = 0.05  # of the time waited so far: readiness is seen at most this much late
MAX_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Probe:
    """What a server answered: an HTTP status, or why there is none."""

    status: int | None = None
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.status == 200  # noqa: PLR2004 - HTTP OK

    def __str__(self) -> str:
        return f"/health: {self.error or f'HTTP {self.status}'}"


async def probe(endpoint: Endpoint, *, timeout_s: float = PROBE_TIMEOUT_S) -> Probe:
    """Ask `/health` once. `timeout_s` bounds the whole, so that an answer dripping in by bytes ends too."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _get_health(endpoint)
    except TimeoutError:
        return Probe(error=f"no answer within {timeout_s:g} s")
    except socket.gaierror as err:  # its numbers are the resolver's, not errno's
        return Probe(error=err.strerror or str(err))
    except OSError as err:
        return Probe(error=os.strerror(err.errno) if err.errno else str(err))
    except h11.RemoteProtocolError as err:
        return Probe(error=f"not HTTP: {err}")
    except h11.LocalProtocolError as err:
        return Probe(error=f"cannot ask {endpoint.prefix}/health: {err}")
    except UnicodeError:
        return Probe(error=f"{endpoint.dial_host!r} cannot be a host's name")


async def watch(endpoint: Endpoint, report: Callable[[Event], None], *, interval_s: float = INTERVAL_S) -> None:
    """Poll until the server is ready, then watch that it stays so; tell each change. Runs until cancelled.

    The first polls come fast, since a small model loads in milliseconds, and ever slower: a large one takes
    minutes.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while not (await probe(endpoint)).ok:
        waited = loop.time() - begun
        await asyncio.sleep(min(LONGEST_POLL_S, max(FIRST_POLL_S, POLL_SHARE * waited)))
    report(BecameReady())
    failures = 0
    while True:
        await asyncio.sleep(interval_s)
        answer = await probe(endpoint)
        if answer.ok:
            if failures >= FAILURES_BEFORE_DEGRADED:
                report(ProbePassed())
            failures = 0
        else:
            failures += 1
            if failures == FAILURES_BEFORE_DEGRADED:
                report(ProbeFailed(str(answer)))


async def _get_health(endpoint: Endpoint) -> Probe:
    if endpoint.is_unix:
        reader, writer = await asyncio.open_unix_connection(endpoint.dial_host)
    else:
        reader, writer = await asyncio.open_connection(
            endpoint.dial_host, endpoint.port, ssl=_unverified() if endpoint.tls else None
        )
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_BODY_BYTES)
        request = h11.Request(
            method="GET",
            target=f"{endpoint.prefix}/health",
            headers=[
                ("Host", "localhost"),
                ("Connection", "close"),
                *([("Authorization", f"Bearer {endpoint.api_key}")] if endpoint.api_key else []),
            ],
        )
        writer.write(connection.send(request) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        status = None
        read = 0
        while True:
            match connection.next_event():
                case h11.NEED_DATA:
                    data = await reader.read(4096)
                    read += len(data)
                    if not read:
                        return Probe(error="closed the connection")
                    if read > MAX_BODY_BYTES:
                        return Probe(error=f"answered more than {MAX_BODY_BYTES} bytes")
                    connection.receive_data(data)
                case h11.Response(status_code=code):
                    status = code
                case h11.EndOfMessage():
                    return Probe(status=status)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@cache
def _unverified() -> ssl.SSLContext:
    """TLS without a look at the certificate: the server is on this host and may have signed its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
