"""The bytes of a real answer, sent again to whoever asks: so that the client is measured, and not the model."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from benchmarks.chat_client import EXTRA, PROMPT

READ_BYTES = 64 * 1024
GIVE_UP_S = 60.0


def recorded(port: int, tokens: int) -> list[bytes]:
    """A streamed answer of the llama-server on this port: its head, and each chunk as it was framed."""
    options = {"max_tokens": tokens, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps({"messages": [{"role": "user", "content": PROMPT}], **options, **EXTRA}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    data = b""
    with socket.create_connection(("127.0.0.1", port), GIVE_UP_S) as connection:
        connection.sendall(head + body)
        while piece := connection.recv(READ_BYTES):  # llama-server closes the connection after a stream
            data += piece
    end = data.index(b"\r\n\r\n") + 4
    # Every event ends with an empty line, and its chunk with one more line end.
    *events, last = data[end:].split(b"\n\n\r\n")
    return [data[:end], *(event + b"\n\n\r\n" for event in events), last]


@contextmanager
def replaying(answer: list[bytes]) -> Iterator[str]:
    """A server that gives this answer to every request, each chunk by itself, as fast as it is taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, answer))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, answer: list[bytes]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            connection.settimeout(GIVE_UP_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _take_request(connection)
            for chunk in answer:
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(READ_BYTES):
                pass


def _take_request(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(READ_BYTES)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(READ_BYTES)
