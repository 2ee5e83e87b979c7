#!/usr/bin/env -S python3 -S -E
"""Plays llama-server, and shows on demand the faults that a real one cannot be made to show.

Takes any llama-server flag and ignores what it does not know. `--help` lists its own switches. It is one
file of standard library, without argparse and http.server, because a test starts it dozens of times.
Its port is that of `--port`, else of LLAMA_ARG_PORT, else 8080, as with the real one.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
import time

TYPE_CHECKING = False  # `typing` takes longer to import than all else here
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

HELP = """\
--ready-after S         /health says 503 "Loading model" until S seconds after the start
--ready-when FILE       ... until FILE exists
--bind-when FILE        the port is not bound until FILE exists
--crash-on-start        print what is to be printed, and exit before the port is bound
--crash-after S         exit S seconds after the start
--crash-until FILE N    the first N starts exit at once, later ones work; FILE counts the starts
--exit-code N           what the crashes above exit with (1); -6, -9, -11: end by that signal
--ignore-sigterm        only SIGKILL ends it
--hang                  never binds the port
--fail-health-after S   /health says 500 from S seconds after the start on
--health-drip           /health sends one byte every 0.1 s, without end
--health-drip-first N   ... the first N times it is asked
--completions-500       completions fail, /health stays 200
--completions-500-after S   the same from S seconds after the start on
--completions-hang      completions are never answered
--slots-busy            a slot is busy, and its tokens move from one question to the next
--slots-stalled         a slot is busy, and its tokens do not move
--slots-hang            /slots and /metrics are never answered
--no-slots              /slots says 501
--metrics               /metrics answers (501 without)
--sleep-idle-seconds S  sleeps after S seconds without work; /slots, /metrics and completions wake it, which it prints
--faults FILE           also does what the words in FILE say, as of now: the switches above without their dashes, and
                        health-500, health-hang, loading
--spawn-child           a child in this process group that ignores SIGTERM
--setsid-child          a child in a session of its own that ignores SIGTERM
--fork-bomb N           N processes at a time in sessions of their own that ignore SIGTERM; each that ends is replaced
--write-to FILE         the main thread appends to FILE all the time, as a real one's computes
--thread-write-to FILE  another thread does
--log TEXT              print TEXT to stderr at the start (may be given again)
--print-lines N         print N lines to stdout at the start
--print-bytes-per-line N    how long those lines are (80)
--print-huge-line N     print one line of N bytes, no line break in it, to stdout at the start
--print-garbage         print bytes that are not UTF-8, NUL and escape codes among them, at the start
--print-per-second N    print N numbered lines a second to stdout all the time, whether they can be written or not
--close-stdout          close stdout and stderr once started"""
SWITCHES = {
    "--crash-on-start", "--ignore-sigterm", "--hang", "--health-drip", "--completions-500", "--spawn-child",
    "--setsid-child", "--close-stdout", "--completions-hang", "--slots-busy", "--slots-stalled", "--slots-hang",
    "--no-slots", "--metrics", "--print-garbage",
}  # fmt: skip
VALUED = {
    "--host", "--port", "--alias", "--ready-after", "--crash-after", "--exit-code", "--fail-health-after", "--log",
    "--print-lines", "--print-bytes-per-line", "--completions-500-after", "--sleep-idle-seconds", "--faults",
    "--ready-when", "--bind-when", "--health-drip-first", "--fork-bomb", "--write-to", "--print-huge-line",
    "--thread-write-to",
    "--print-per-second",
}  # fmt: skip

DRIP_S = 0.1
POLL_S = 0.01
BLOCK_BYTES = 1 << 20
GARBAGE = b"".join(bytes([octet]) for octet in range(256)) + b"\xc3\n\xff\xfe\n"
COMPLETIONS = {
    "/completion", "/v1/completions", "/v1/chat/completions", "/embeddings", "/v1/embeddings", "/v1/rerank",
}  # fmt: skip
WORK = COMPLETIONS | {"/slots", "/metrics"}
REQUEST_LIMIT_BYTES = 1 << 20
LOADING = '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
BROKEN = '{"error":{"message":"stand-in fault","type":"server_error","code":500}}'
NOT_SUPPORTED = (
    '{"error":{"message":"This server does not support this endpoint","type":"not_supported_error","code":501}}'
)
UNKNOWN = '{"error":{"message":"File Not Found","type":"not_found_error","code":404}}'

Flags = dict[str, list[str]]
Reply = tuple[int, str]


def parse(argv: list[str]) -> Flags:
    """Its own flags with every value given; anything else is passed over. `--flag=value` works too."""
    flags: Flags = {}
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--crash-until":
            flags[name] = [next(words), next(words)]
        elif name in VALUED:
            flags.setdefault(name, []).append(value if equals else next(words))
        elif name in SWITCHES:
            flags[name] = []
    return flags


class StandIn:
    """One run: what the flags ask for, measured from `started` (monotonic seconds)."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.started = time.monotonic()
        self.health_asked = 0
        self.worked = self.started
        self.tokens = 0

    def does(self, fault: str) -> bool:
        """Whether a fault is switched on: by its flag, or in the file of faults at this moment."""
        if f"--{fault}" in self.flags:
            return True
        try:
            with open(self.flags["--faults"][-1], encoding="utf-8") as file:
                return fault in file.read().split()
        except (KeyError, OSError):
            return False

    def is_sleeping(self) -> bool:
        return time.monotonic() - self.worked >= self.seconds("--sleep-idle-seconds", float("inf"))

    def work(self) -> None:
        """Something that counts as work: it wakes the server."""
        if self.is_sleeping():
            say(2, "I srv  handle_sleep: server is exiting sleeping state\n")
        self.worked = time.monotonic()

    def seconds(self, name: str, default: float) -> float:
        return float(self.flags[name][-1]) if name in self.flags else default

    def past(self, name: str, default: float) -> bool:
        return time.monotonic() - self.started >= self.seconds(name, default)

    def crash(self) -> NoReturn:
        status = int(self.seconds("--exit-code", 1))
        if status < 0:
            os.kill(os.getpid(), -status)
            time.sleep(1)  # dead by then
        os._exit(status)

    def run(self) -> None:
        """Shows the start-up faults in order, then serves for ever."""
        flags = self.flags
        say(2, "".join(f"{text}\n" for text in flags.get("--log", [])))
        # Before the first fault, so that even a stand-in that dies at once leaves its children behind.
        for kind, detached in (("--spawn-child", False), ("--setsid-child", True)):
            if kind in flags:
                spawn_stubborn_child(detached=detached)
        ending: Callable[..., object] | signal.Handlers = (
            signal.SIG_IGN if "--ignore-sigterm" in flags else lambda *_: os._exit(0)
        )
        for ender in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ender, ending)
        if "--fork-bomb" in flags:
            start_fork_bomb(int(self.seconds("--fork-bomb", 0)))
        self.print_all()
        if "--crash-on-start" in flags or self.is_crashing_start():
            self.crash()
        if "--crash-after" in flags:
            self.after(self.seconds("--crash-after", 0), self.crash)
        while "--hang" in flags:
            signal.pause()
        while not self.exists("--bind-when"):
            time.sleep(POLL_S)
        self.append_where_asked()
        self.serve()

    def append_where_asked(self) -> None:
        if "--thread-write-to" in self.flags:
            threading.Thread(target=append_for_ever, args=(self.flags["--thread-write-to"][-1],), daemon=True).start()
        if "--write-to" in self.flags:
            threading.Thread(target=self.serve, daemon=True).start()
            append_for_ever(self.flags["--write-to"][-1])

    def exists(self, name: str) -> bool:
        """Whether the file that a switch names is there; true without the switch."""
        return name not in self.flags or os.path.exists(self.flags[name][-1])

    def print_all(self) -> None:
        flags = self.flags
        width = int(self.seconds("--print-bytes-per-line", 80))
        for number in range(int(self.seconds("--print-lines", 0))):
            say(1, f"{number} ".ljust(width, "x")[:width] + "\n")
        if "--print-garbage" in flags:
            write_all(2, GARBAGE)
        if "--print-huge-line" in flags:
            left = int(self.seconds("--print-huge-line", 0))
            while left > 0:
                write_all(1, b"x" * min(left, BLOCK_BYTES))
                left -= BLOCK_BYTES
            write_all(1, b"\n")
        if "--print-per-second" in flags:
            speed = self.seconds("--print-per-second", 1)
            threading.Thread(target=print_for_ever, args=(speed,), daemon=True).start()
        if "--close-stdout" in flags:
            # The reader of a pipe sees its end; the numbers stay taken, or the listener would get one.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)

    def is_crashing_start(self) -> bool:
        """Counts this start in the file; true while the count is within the limit."""
        if "--crash-until" not in self.flags:
            return False
        path, limit = self.flags["--crash-until"]
        with open(path, "ab") as file:
            file.write(b".")
            file.flush()
            return os.fstat(file.fileno()).st_size <= int(limit)

    def after(self, delay_s: float, act: Callable[[], object]) -> None:
        timer = threading.Timer(delay_s, act)
        timer.daemon = True
        timer.start()

    def serve(self) -> None:
        host = self.flags.get("--host", ["127.0.0.1"])[-1]
        port = int(self.flags.get("--port", [os.environ.get("LLAMA_ARG_PORT", "8080")])[-1])
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
            except OSError:
                # As llama-server words it, exit status included.
                say(2, f"E srv   start: couldn't bind HTTP server socket, hostname: {host}, port: {port}\n")
                os._exit(1)
            listener.listen(128)
            if not self.flags.get("--ready-after"):
                say(2, f"I srv  llama_server: listening on http://{host}:{port}\n")
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client: socket.socket) -> None:
        try:
            with client:
                path = read_path(client)
                if path == "/health" and self.is_dripping():
                    drip(client)
                while self.never_answers(path):
                    time.sleep(DRIP_S)
                status, body = self.reply(path)
                # The reason phrase and a closed connection are all that HTTP/1.1 needs of a test server.
                head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
                client.sendall(f"{head}\r\nConnection: close\r\n\r\n{body}".encode())
        except OSError:
            pass  # the client went away

    def is_dripping(self) -> bool:
        self.health_asked += 1
        first = int(self.seconds("--health-drip-first", 0))
        return "--health-drip" in self.flags or self.health_asked <= first

    def reply(self, path: str) -> Reply:
        if not (self.past("--ready-after", 0) and self.exists("--ready-when")) or self.does("loading"):
            return 503, LOADING
        if path in {"/health", "/v1/health"}:
            failing = self.past("--fail-health-after", float("inf")) or self.does("health-500")
            return (500, BROKEN) if failing else (200, '{"status":"ok"}')
        if path in WORK:
            self.work()
        failing = self.does("completions-500") or self.past("--completions-500-after", float("inf"))
        if path in COMPLETIONS and failing:
            return 500, BROKEN
        if (path == "/slots" and self.does("no-slots")) or (path == "/metrics" and not self.does("metrics")):
            return 501, NOT_SUPPORTED
        name = self.flags.get("--alias", ["stand-in"])[-1].replace('"', "")
        message = f'"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":"{name}"}}'
        replies = {
            "/v1/models": f'{{"object":"list","data":[{{"id":"{name}","object":"model"}}]}}',
            "/slots": self.slots(),
            "/metrics": self.metrics(),
            "/props": f'{{"total_slots":1,"is_sleeping":{"true" if self.is_sleeping() else "false"}}}',
            "/embeddings": '[{"index":0,"embedding":[[0.5]]}]',
            "/v1/rerank": '{"results":[{"index":0,"relevance_score":0.5}]}',
            "/completion": f'{{"content":"{name}","stop":true}}',
            "/v1/chat/completions": f'{{"object":"chat.completion","model":"{name}","choices":[{{{message}}}]}}',
        }
        return (200, replies[path]) if path in replies else (404, UNKNOWN)

    def never_answers(self, path: str) -> bool:
        fault = "health-hang" if path == "/health" else "completions-hang" if path in COMPLETIONS else "slots-hang"
        return path in WORK | {"/health"} and self.does(fault)

    def is_busy(self) -> bool:
        """Whether somebody is served; his tokens move each time one asks."""
        self.tokens += self.does("slots-busy")
        return self.does("slots-busy") or self.does("slots-stalled")

    def slots(self) -> str:
        if not self.is_busy():
            return '[{"id":0,"n_ctx":2048,"is_processing":false}]'
        token = f'"next_token":[{{"has_next_token":true,"n_decoded":{self.tokens}}}]'
        return f'[{{"id":0,"n_ctx":2048,"is_processing":true,"id_task":1,"n_prompt_tokens":9,{token}}}]'

    def metrics(self) -> str:
        busy = int(self.is_busy())
        return f"llamacpp:n_decode_total {self.tokens}\nllamacpp:requests_processing {busy}\n"


def read_path(client: socket.socket) -> str:
    """Reads one request, body included (else closing would reset the connection); returns its path."""
    data = b""
    wanted = REQUEST_LIMIT_BYTES
    while len(data) < wanted and (chunk := client.recv(65536)):
        data += chunk
        head, end, _ = data.partition(b"\r\n\r\n")
        if end:
            length = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            wanted = len(head) + 4 + sum(length)
    return data.split(b" ", 2)[1].split(b"?")[0].decode("latin-1") if data.count(b" ") > 1 else ""


def drip(client: socket.socket) -> NoReturn:
    """Never finishes an answer: only a deadline on the whole of it notices (OSError: the client left)."""
    for octet in b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n":
        client.sendall(bytes([octet]))
        time.sleep(DRIP_S)
    while True:
        client.sendall(b" ")
        time.sleep(DRIP_S)


def spawn_stubborn_child(*, detached: bool) -> None:
    """Forks a process that sleeps and ignores SIGTERM, and prints `child pid=N`.

    It ignores the signal before this returns: SIGTERM is ignored here across the fork.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        if detached:
            os.setsid()
        while True:
            signal.pause()
    say(2, f"child pid={pid}\n")


def start_fork_bomb(size: int) -> None:
    """Forks without end, `size` processes at a time: a pipe holds a byte for each that may still be made.

    A parent puts back the byte of a child that ended, and another takes it at once.
    """
    taking, giving = os.pipe()
    os.write(giving, b"." * size)
    if os.fork():
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def replace_ended(*_: object) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                os.write(giving, b".")
        except ChildProcessError:
            pass

    signal.signal(signal.SIGCHLD, replace_ended)
    os.setsid()
    while os.read(taking, 1):
        if os.fork() == 0:
            os.setsid()


def print_for_ever(per_second: float) -> NoReturn:
    """Numbered lines in bursts of a tenth of a second."""
    number = 0
    while True:
        count = max(1, round(per_second / 10))
        lines = "".join(f"line {number + more} {'x' * 60}\n" for more in range(count))
        number += count
        time.sleep(count / per_second)
        say(1, lines)


def append_for_ever(path: str) -> NoReturn:
    while True:
        with open(path, "ab") as file:
            file.write(b".")
        time.sleep(POLL_S)


def say(descriptor: int, text: str) -> None:
    """Write it; what a full disk does not take is lost, as with a real server."""
    try:
        write_all(descriptor, text.encode(errors="surrogateescape"))
    except OSError as err:
        if err.errno != errno.ENOSPC:
            raise


def write_all(descriptor: int, octets: bytes) -> None:
    data = memoryview(octets)
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    if "--help" in sys.argv:
        say(1, HELP + "\n")
        sys.exit(0)
    StandIn(parse(sys.argv[1:])).run()
