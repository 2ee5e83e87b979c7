#!/usr/bin/env -S python3 -S -E
"""What child.c does, for a machine without a C compiler; see there."""

import os
import signal
import socket
import sys
import time

born = time.monotonic_ns()
VALUED = ("--births", "--name", "--port", "--lines", "--notify-fd")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"


def main() -> None:
    given = {a: b for a, b in zip(sys.argv[1:], [*sys.argv[2:], ""], strict=True) if a in VALUED}
    ending = signal.SIG_IGN if "--ignore-term" in sys.argv else lambda *_: os._exit(0)
    signal.signal(signal.SIGTERM, ending)
    signal.signal(signal.SIGINT, ending)
    name = given.get("--name", "child")
    tell(given, f"{name} {os.getpid()} {born}\n")
    if lines := int(given.get("--lines", 0)):
        first = time.monotonic_ns()
        for number in range(lines):
            line = f"bench-line {name} {number} ".ljust(99, "x").encode() + b"\n"
            while line:
                line = line[os.write(1, line) :]
        tell(given, f"{name}:wrote {first} {time.monotonic_ns()}\n")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", int(given.get("--port", 0))))
    listener.listen(64)
    if "--notify-fd" in given:
        os.write(int(given["--notify-fd"]), b"\n")
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(1.0)
            try:
                body = b"[]" if connection.recv(8192).startswith(b"GET /slots") else b'{"status":"ok"}'
                connection.sendall(HEAD % (len(body), body))
            except OSError:
                continue


def tell(given: dict[str, str], line: str) -> None:
    if path := given.get("--births"):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, line.encode())
        os.close(fd)


main()
