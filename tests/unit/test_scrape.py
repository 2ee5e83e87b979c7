"""Servers asked for their metrics: at once, within a time, and never woken. The server is a scripted one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from infer_dev.plan.argv import endpoint_of
from infer_dev.plan.model import Command, Spec
from infer_dev.supervisor.health.scrape import LONGEST_BYTES, Scrapes
from infer_dev.supervisor.health.server import offers_metrics

DEADLINE_S = 20.0


@dataclass
class Server:
    """Answers with what it is told to, and notes what it was asked."""

    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    hangs: bool = False
    waiting: int = 0
    most_waiting: int = 0
    port: int = 0

    @asynccontextmanager
    async def run(self) -> AsyncIterator["Server"]:
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listening.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head.split()[1])
            self.keys += [line for line in head.splitlines() if line.startswith("Authorization")]
            if self.hangs:
                self.waiting += 1
                self.most_waiting = max(self.most_waiting, self.waiting)
                await reader.read()
                self.waiting -= 1
            body = self.answers.get(head.split()[1])
            status = "404 no" if body is None else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body or b'')}\r\n\r\n".encode() + (body or b""))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def spec(self, name: str, *flags: str) -> tuple[Spec, int]:
        argv = ("llama-server", "--port", str(self.port), "--metrics", *flags)
        command = Command(argv=argv, cwd="/", log_file="/dev/null")
        return Spec(name=name, source="/x.toml", command=command, endpoint=endpoint_of(argv, {})), 4711


@dataclass
class Clock:
    now_s: float = 0.0
    used_s: float = 2.0

    def scrapes(self) -> Scrapes:
        return Scrapes(cpu_s=lambda _: self.used_s, clock=lambda: self.now_s)


SAYS = b"# TYPE a gauge\na 1\n"
AWAKE, ASLEEP = b'{"is_sleeping":false}', b'{"is_sleeping":true}'


@pytest.mark.parametrize(
    ("argv", "env", "offers"),
    [
        (("s", "--metrics"), {}, True),
        (("s",), {}, False),
        (("s",), {"LLAMA_ARG_ENDPOINT_METRICS": "1"}, True),
        (("s",), {"LLAMA_ARG_ENDPOINT_METRICS": "off"}, False),
    ],
)
def test_a_server_offers_metrics_if_its_command_says_so(
    argv: tuple[str, ...], env: dict[str, str], offers: bool
) -> None:
    assert offers_metrics(Command(argv=argv, env=env, cwd="/", log_file="/l")) is offers


async def test_a_server_without_the_flag_is_not_asked() -> None:
    async with Server({"/metrics": SAYS}).run() as server:
        argv = ("llama-server", "--port", str(server.port))
        spec = Spec(
            name="a", source="", command=Command(argv=argv, cwd="/", log_file="/l"), endpoint=endpoint_of(argv, {})
        )
        assert await Scrapes().all({"a": (spec, 1)}) == {}
        assert server.asked == []


async def test_prefix_and_key_are_those_of_the_command() -> None:
    async with Server({"/llm/metrics": SAYS}).run() as server:
        found = await Scrapes().all({"a": server.spec("a", "--api-prefix", "/llm", "--api-key", "secret")})
        assert (found["a"].text, found["a"].ok) == (SAYS.decode(), True)
        assert server.keys == ["Authorization: Bearer secret"]


async def test_one_that_hangs_costs_its_timeout_once_and_the_others_nothing() -> None:
    async with Server({"/metrics": SAYS}).run() as good, Server(hangs=True).run() as bad:
        servers = {"good": good.spec("good")} | {f"bad{number}": bad.spec(f"bad{number}") for number in range(5)}
        found = await asyncio.wait_for(Scrapes(timeout_s=0.2).all(servers), DEADLINE_S)
        assert {name: one.ok for name, one in found.items()} == {name: name == "good" for name in servers}
        assert bad.most_waiting == 5, "all were asked at once"


@pytest.mark.parametrize("body", [b"a 1\n\xff", b"a" * (LONGEST_BYTES + 1), None])
async def test_what_cannot_be_metrics_is_not_ok(body: bytes | None) -> None:
    async with Server({} if body is None else {"/metrics": body}).run() as server:
        found = await Scrapes().all({"a": server.spec("a")})
        assert (found["a"].text, found["a"].ok) == ("", False)


async def test_nobody_there_is_not_ok(free_port: Callable[[], int]) -> None:
    assert not (await Scrapes().all({"a": Server(port=free_port()).spec("a")}))["a"].ok


async def test_one_that_sleeps_is_not_woken_and_its_last_words_still_hold() -> None:
    clock = Clock()
    scrapes = clock.scrapes()
    async with Server({"/metrics": SAYS, "/props": AWAKE}).run() as server:
        spec = {"a": server.spec("a", "--sleep-idle-seconds", "60")}
        first = (await scrapes.all(spec))["a"]
        server.answers["/props"] = ASLEEP
        clock.now_s, clock.used_s = 60.0, 9.0
        second = (await scrapes.all(spec))["a"]
        assert server.asked == ["/props", "/metrics", "/props"]
        assert [(one.text, one.ok, one.is_asleep) for one in (first, second)] == [
            (SAYS.decode(), True, False),
            (SAYS.decode(), True, True),
        ]


async def test_one_that_may_sleep_is_asked_only_after_work_so_that_it_gets_to_sleep() -> None:
    clock = Clock()
    scrapes = clock.scrapes()
    async with Server({"/metrics": SAYS, "/props": AWAKE}).run() as server:
        spec = {"a": server.spec("a", "--sleep-idle-seconds", "60")}
        for used_s in (0.0, 0.02, 0.02, 3.0, 0.02, 0.02):
            clock.now_s, clock.used_s = clock.now_s + 15.0, clock.used_s + used_s
            await scrapes.all(spec)
        assert server.asked.count("/metrics") == 2, "after it had loaded, and after it had worked"
        assert server.asked.count("/props") == 6


async def test_work_is_not_forgotten_while_a_server_does_not_answer() -> None:
    clock = Clock()
    scrapes = clock.scrapes()
    async with Server({"/props": AWAKE}).run() as server:
        spec = {"a": server.spec("a", "--sleep-idle-seconds", "60")}
        assert not (await scrapes.all(spec))["a"].ok
        server.answers["/metrics"] = SAYS
        assert (await scrapes.all(spec))["a"].text == SAYS.decode()


async def test_another_process_of_the_instance_is_asked_anew() -> None:
    clock = Clock()
    scrapes = clock.scrapes()
    async with Server({"/metrics": SAYS, "/props": AWAKE}).run() as server:
        spec, _ = server.spec("a", "--sleep-idle-seconds", "60")
        await scrapes.all({"a": (spec, 1)})
        await scrapes.all({"a": (spec, 2)})
        assert server.asked.count("/metrics") == 2
