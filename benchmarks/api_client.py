"""Load on a daemon's API, from a process of its own: `/status` at a rate, and readers of `/events` that hardly read.

python -m benchmarks.api_client SOCKET RATE SECONDS READERS: says `begun`, and in the end one line of JSON.
"""

import contextlib
import json
import socket
import sys
import threading
import time
from dataclasses import dataclass, field

CONNECTIONS = 8
SIP_BYTES = 64  # what a slow reader takes
SIP_S = 0.5  # and how often
BUFFER_BYTES = 4096  # the kernel doubles it
READ_BYTES = 1 << 18


def main() -> None:
    path, rate, seconds, readers = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    slow = SlowReaders(path, readers)
    print("begun", flush=True)
    end = time.monotonic() + seconds
    asking = [Asking(path, rate / CONNECTIONS, end) for _ in range(CONNECTIONS)]
    threads = [threading.Thread(target=one.run) for one in asking]
    for thread in threads:
        thread.start()
    slow.sip_until(end)
    for thread in threads:
        thread.join()
    took_ms = sorted(one for asked in asking for one in asked.took_ms)
    print(
        json.dumps(
            {
                "answered": len(took_ms),
                "failed": sum(one.failed for one in asking),
                "per_second": len(took_ms) / seconds,
                "median_ms": took_ms[len(took_ms) // 2] if took_ms else None,
                "p99_ms": took_ms[int(len(took_ms) * 0.99)] if took_ms else None,
                "readers": slow.alive(),
            }
        ),
        flush=True,
    )


def connected(path: str, *, buffer_bytes: int = 0) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    if buffer_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    made.settimeout(10)
    made.connect(path)
    return made


@dataclass
class Asking:
    """Asks again and again over one connection; late ones are made up for."""

    path: str
    rate: float
    end: float
    took_ms: list[float] = field(default_factory=list)
    failed: int = 0

    def run(self) -> None:
        begun = time.monotonic()
        connection: socket.socket | None = None
        while (now := time.monotonic()) < self.end:
            due = begun + (len(self.took_ms) + self.failed) / self.rate
            if due > now:
                time.sleep(due - now)
            asked = time.monotonic()
            try:
                connection = connection or connected(self.path)
                connection.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
                self._read_answer(connection)
            except OSError:
                self.failed += 1
                if connection is not None:
                    connection.close()
                connection = None
            else:
                self.took_ms.append((time.monotonic() - asked) * 1000)
        if connection is not None:
            connection.close()

    def _read_answer(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += received(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if not head.startswith(b"HTTP/1.1 200") or not lengths:
            raise ConnectionError("refused")
        left = int(lengths[0][15:]) - len(body)
        while left > 0:
            left -= len(received(connection))


def received(connection: socket.socket) -> bytes:
    if not (piece := connection.recv(READ_BYTES)):
        raise ConnectionError("closed")
    return piece


class SlowReaders:
    """So many streams of all events, each read by a few bytes at a time."""

    def __init__(self, path: str, count: int) -> None:
        self._connections: list[socket.socket] = []
        for _ in range(count):
            with contextlib.suppress(OSError):
                one = connected(path, buffer_bytes=BUFFER_BYTES)
                one.sendall(b"GET /events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if one.recv(12) == b"HTTP/1.1 200":
                    self._connections.append(one)

    def sip_until(self, end: float) -> None:
        for one in self._connections:
            one.setblocking(False)
        while time.monotonic() < end:
            time.sleep(SIP_S)
            for one in list(self._connections):
                try:
                    if not one.recv(SIP_BYTES):
                        self._drop(one)
                except BlockingIOError:
                    continue
                except OSError:
                    self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        self._connections.remove(one)
        one.close()

    def alive(self) -> int:
        return len(self._connections)


if __name__ == "__main__":
    main()
