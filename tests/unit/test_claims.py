"""Whose turn it is."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from infer_dev.errors import ConfigError, UnavailableError
from infer_dev.plan.model import Api, Command, Endpoint, Spec
from infer_dev.supervisor.claims import HUNG_UP, Claims, Keys, keys_of


def keys(*names: str) -> Callable[[], Keys]:
    return lambda: frozenset(("name", name) for name in names)


def spec(name: str, *, port: int = 1, host: str = "127.0.0.1", group: str | None = None, log: str = "") -> Spec:
    command = Command(argv=("x",), env={}, cwd="/", log_file=log or f"/{name}.log")
    endpoint = Endpoint(bind_host=host, dial_host=host, port=port)
    return Spec(name=name, source="/f", command=command, endpoint=endpoint, group=group)


class Requests:
    """Requests that hold their turn until they are let go."""

    def __init__(self) -> None:
        self.claims = Claims()
        self.begun: list[str] = []
        self._may_end: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, name: str, wanted: Callable[[], Keys] | None) -> None:
        self._may_end[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, wanted))
        await self.settle()

    async def _hold(self, name: str, wanted: Callable[[], Keys] | None) -> None:
        async with self.claims.turn(name, wanted):
            self.begun.append(name)
            await self._may_end[name].wait()

    async def end(self, name: str) -> None:
        self._may_end[name].set()
        await self.settle()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await self.tasks[name]
        await self.settle()

    @staticmethod
    async def settle() -> None:
        for _ in range(5):  # turns of the loop, no time
            await asyncio.sleep(0)


async def test_requests_without_anything_in_common_do_not_wait() -> None:
    requests = Requests()
    await requests.ask("a", keys("a"))
    await requests.ask("b", keys("b"))
    assert requests.begun == ["a", "b"]


async def test_requests_with_something_in_common_come_in_the_order_of_asking() -> None:
    requests = Requests()
    await requests.ask("1", keys("a"))
    await requests.ask("2", keys("a", "b"))
    await requests.ask("3", keys("b"))  # nothing in common with 1, but 2 was first
    await requests.ask("4", keys("c"))
    assert requests.begun == ["1", "4"]
    await requests.end("1")
    assert requests.begun == ["1", "4", "2"]
    await requests.end("2")
    assert requests.begun == ["1", "4", "2", "3"]


async def test_who_claims_everything_waits_for_all_and_all_wait_for_him() -> None:
    requests = Requests()
    await requests.ask("1", keys("a"))
    await requests.ask("2", keys("b"))
    await requests.ask("all", None)
    await requests.ask("3", keys("c"))
    await requests.end("1")
    assert requests.begun == ["1", "2"]
    await requests.end("2")
    assert requests.begun == ["1", "2", "all"]
    await requests.end("all")
    assert requests.begun == ["1", "2", "all", "3"]


@pytest.mark.parametrize("gone", ["1", "2"])
async def test_request_that_goes_away_holds_nobody_up(gone: str) -> None:
    requests = Requests()
    await requests.ask("1", keys("a"))
    await requests.ask("2", keys("a"))
    await requests.ask("3", keys("a"))
    await requests.cancel(gone)
    await requests.end("1" if gone == "2" else "2")
    assert requests.begun[-1] == "3"


async def test_request_that_needs_more_after_its_wait_waits_for_that_too() -> None:
    requests, needed = Requests(), {"a"}
    await requests.ask("1", keys("a"))
    await requests.ask("other", keys("b"))
    await requests.ask("2", lambda: frozenset(("name", name) for name in needed))
    needed.add("b")  # its file was changed meanwhile
    await requests.end("1")
    assert requests.begun == ["1", "other"]
    await requests.end("other")
    assert requests.begun == ["1", "other", "2"]


async def test_request_whose_file_cannot_be_read_any_more_holds_nobody_up() -> None:
    requests, broken = Requests(), [False]

    def wanted() -> Keys:
        if broken[0]:
            raise ConfigError("cannot read it")
        return keys("a")()

    await requests.ask("1", keys("a"))
    await requests.ask("2", wanted)
    await requests.ask("3", keys("a"))
    broken[0] = True
    await requests.end("1")
    assert requests.begun == ["1", "3"]
    with pytest.raises(ConfigError):
        await requests.tasks["2"]


async def test_no_two_that_clash_ever_hold_their_turn_at_once() -> None:
    random, claims, held = Random(7), Claims(), list[frozenset[str]]()

    async def request() -> None:
        mine = frozenset(random.sample("abcdef", random.randint(1, 3)))
        with suppress(TimeoutError):
            async with asyncio.timeout(random.choice([None, None, 0.001])), claims.turn("x", keys(*mine)):
                assert all(mine.isdisjoint(other) for other in held)
                held.append(mine)
                try:
                    for _ in range(random.randint(0, 4)):
                        await asyncio.sleep(0)
                finally:
                    held.remove(mine)

    await asyncio.gather(*(request() for _ in range(300)))
    assert held == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (spec("a"), spec("a", port=2)),
        (spec("a", host="127.0.0.1"), spec("b", host="0.0.0.0")),
        (spec("a", host="/x.sock", port=0), spec("b", host="/x.sock", port=0)),
        (spec("a", group="g"), spec("b", port=2, group="g")),
        (spec("a", log="/l"), spec("b", port=2, log="/l")),
    ],
)
def test_instances_that_could_not_run_side_by_side_clash(one: Spec, other: Spec) -> None:
    assert keys_of((), [one]) & keys_of((), [other])
    assert not keys_of((), [one]) & keys_of((), [spec("z", port=9, group="z")])


def test_what_files_say_of_the_api_clashes_with_the_like_and_with_its_port() -> None:
    said = keys_of(["/f"], (), [Api(port=9000)])
    assert said & keys_of(["/g"], (), [Api(token="t")])
    assert said & keys_of(["/g"], [spec("a", port=9000)])
    assert not said & keys_of(["/g"], [spec("a", port=8000)], [Api()])


async def test_request_nobody_waits_for_any_more_is_withdrawn_before_its_turn_and_not_after() -> None:
    requests, gone = Requests(), list[str]()
    for name in ("1", "2", "3"):
        HUNG_UP.set(lambda name=name: name in gone)
        await requests.ask(name, keys("a"))
    assert [one["what"] for one in requests.claims.under_way()] == ["1", "2", "3"]
    assert [one["waits_for"] for one in requests.claims.under_way()] == [[], ["1"], ["1", "2"]]
    gone += ["1", "2"]
    with pytest.raises(UnavailableError):
        await requests.tasks["2"]
    await requests.end("1")
    await requests.tasks["1"]  # it had begun: it came to its end
    assert requests.begun == ["1", "3"]
