"""The words of a switch, who has to leave for it, what is saved of it: all that needs no process."""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import pytest

from infer_dev.api.http import Request
from infer_dev.api.switch import SwitchRoutes, stream
from infer_dev.errors import UnavailableError
from infer_dev.host.memory import release as memory_release
from infer_dev.llama_cpp.cause import Cause
from infer_dev.plan.model import Command, Endpoint, Spec
from infer_dev.supervisor.lifecycle import State
from infer_dev.supervisor.order import Seat
from infer_dev.supervisor.switch.preflight import leaving, look
from infer_dev.supervisor.switch.receipt import (
    Fault,
    Note,
    Phase,
    Receipt,
    Restored,
    SwitchFaultError,
    Wish,
    note_from_json,
    note_to_json,
)
from infer_dev.supervisor.switch.store import Kept, SwitchStore
from infer_dev.supervisor.switch.switcher import Job, Switcher

NOTE = Note(
    id=7,
    time="2026-01-01T00:00:00.000+00:00",
    wish=Wish(target="b", drain_timeout_s=3.0),
    began=10.0,
    phase=Phase.READY,
    phase_began=12.0,
    leaving=("a", "c"),
    restore=("a",),
    phases=(("preflight", 0.5),),
    log_start=42,
    fault=Fault(phase="ready", detail="no", log_tail=("x",)),
)


def spec(name: str, *, port: int = 8080, host: str = "127.0.0.1", group: str | None = None) -> Spec:
    command = Command(argv=("/bin/sh", "-m", "/etc/passwd"), cwd="/", log_file=os.devnull)
    endpoint = Endpoint(bind_host=host, dial_host="127.0.0.1", port=port)
    return Spec(name=name, source="f", command=command, endpoint=endpoint, group=group)


def seat(one: Spec, state: State = State.READY) -> Seat:
    return Seat(spec=one, state=state, wanted=True, has_process=state is State.READY)


def names(target: Spec, *seats: Seat) -> list[str]:
    return [one.spec.name for one in leaving(target, seats)]


def test_those_of_the_group_leave_whatever_their_ports() -> None:
    target = spec("b", group="g")
    others = [seat(spec("a", port=1, group="g")), seat(spec("c", group="h")), seat(spec("d"))]
    assert names(target, seat(target), *others) == ["a"]


def test_those_on_the_port_leave_where_there_is_no_group() -> None:
    target = spec("b", host="0.0.0.0")
    assert names(target, seat(spec("a")), seat(spec("c", port=1)), seat(spec("d", group="g"))) == ["a", "d"]


@pytest.mark.parametrize(
    ("state", "leaves"),
    [
        (State.STARTING, True),
        (State.DEGRADED, True),
        (State.STOPPING, True),
        (State.BACKOFF, True),
        (State.FAILED, False),
        (State.STOPPED, False),
        (State.DISABLED, False),
    ],
)
def test_only_those_at_work_leave(state: State, leaves: bool) -> None:
    assert bool(names(spec("b", group="g"), seat(spec("a", group="g"), state))) == leaves


def test_what_can_work_is_not_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = spec("b", port=taken.getsockname()[1])
        look(one, [one.endpoint])


@pytest.mark.parametrize(
    ("argv", "log", "cause"),
    [
        (("/bin/sh",), os.devnull, Cause.BAD_ARGUMENT),
        (("/nowhere/llama-server", "-m", "/etc/passwd"), os.devnull, Cause.BINARY_UNUSABLE),
        (("/etc/passwd", "-m", "/etc/passwd"), os.devnull, Cause.BINARY_UNUSABLE),
        (("/bin/sh", "--model", "nowhere.gguf"), os.devnull, Cause.MODEL_NOT_FOUND),
        (("/bin/sh", "-m", "/etc/passwd"), "/proc/nowhere/x.log", Cause.LOG_UNWRITABLE),
    ],
)
def test_what_cannot_work_is_refused(argv: tuple[str, ...], log: str, cause: Cause) -> None:
    one = spec("b", port=1)
    with pytest.raises(SwitchFaultError) as refused:
        look(replace(one, command=replace(one.command, argv=argv, log_file=log)), [one.endpoint])
    assert refused.value.fault.cause == cause
    assert refused.value.fault.hint


def test_model_that_is_fetched_need_not_be_there(free_port: Callable[[], int]) -> None:
    one = spec("b", port=free_port())
    argv = ("/bin/sh", "-m", "nowhere.gguf", "--hf-repo", "x/y")
    look(replace(one, command=replace(one.command, argv=argv)), [])


def test_port_of_a_stranger_is_refused_and_its_holder_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = spec("b", port=taken.getsockname()[1])
        command = replace(one.command, argv=("/bin/sh", "-m", "/etc/passwd"))
        with pytest.raises(SwitchFaultError, match=rf"taken by .* \(pid {os.getpid()}\)"):
            look(replace(one, command=command), [])


@pytest.mark.parametrize("note", [NOTE, replace(NOTE, fault=None, phase=None)])
def test_note_survives_the_daemon(note: Note, tmp_path: Path) -> None:
    assert note_from_json(json.loads(json.dumps(note_to_json(note)))) == note
    SwitchStore(str(tmp_path), "life").save(note, {"ok": True})
    assert SwitchStore(str(tmp_path), "life").load() == Kept(note, {"ok": True})
    assert SwitchStore(str(tmp_path), "another life").load() == Kept()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"format": 2}',
        '{"format": 1, "life_id": "life", "note": {"id": 1}, "receipt": null}',
        '{"format": 1, "life_id": "life", "note": null, "receipt": 3}',
        json.dumps({"format": 1, "life_id": "life", "note": note_to_json(NOTE) | {"phase": "x"}, "receipt": None}),
    ],
)
def test_note_that_cannot_be_understood_is_passed_over(text: str, tmp_path: Path) -> None:
    (tmp_path / "switch.json").write_text(text)
    assert SwitchStore(str(tmp_path), "life").load() == Kept()


def test_note_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    SwitchStore(str(tmp_path / "gone"), "life").save(NOTE, None)
    assert "cannot save the switch" in caplog.text


def test_phases_keep_their_seconds() -> None:
    note = NOTE.entered(Phase.PROOF, 15.5).left(16.0)
    assert note.phases == (("preflight", 0.5), ("ready", 3.5), ("proof", 0.5))
    assert note.left(99.0) is note


RECEIPT = Receipt(id=1, time="t", old="a", new="b", changed=False, seconds=1.0)


@pytest.mark.parametrize(
    ("phase", "serves", "end"),
    [
        ("drain", True, "a still serves"),
        ("ready", True, "a serves again"),
        ("ready", False, "a does not serve either, it is failed: port taken"),
    ],
)
def test_error_tells_what_failed_and_who_serves(phase: str, serves: bool, end: str) -> None:
    state = "ready" if serves else "failed"
    old = Restored(name="a", serves=serves, state=state, detail="" if serves else "port taken")
    failed = replace(RECEIPT, fault=Fault(phase=phase, detail="b broke"), restored=(old,))
    assert failed.error == f"cannot switch to b: b broke (phase {phase}); {end}"
    assert (failed.ok, failed.to_json()["restored"][0]["serves"]) == (False, serves)


async def test_stream_ends_with_the_receipt_and_is_quiet_between() -> None:
    job = Job(Wish(target="b"))
    pieces = stream(job, keepalive_s=0.01)
    job.tell("begin", {"phase": "preflight"})
    assert await anext(pieces) == b'event: begin\ndata: {"phase": "preflight"}\n\n'
    assert await anext(pieces) == b": nothing new\n\n"
    job.end(RECEIPT)
    last = [piece async for piece in pieces if not piece.startswith(b":")]
    assert len(last) == 1
    assert last[0].startswith(b"event: receipt\n")
    assert [piece async for piece in stream(job)][-1] == last[0]  # who comes late gets all of it


async def test_stream_of_a_switch_without_a_receipt_ends_with_an_error() -> None:
    job = Job(Wish(target="b"))
    job.fail(UnavailableError("cannot finish the switch"))
    pieces = [piece async for piece in stream(job)]
    assert len(pieces) == 1
    assert pieces[0].startswith(b"event: error\n")
    with pytest.raises(UnavailableError):
        await job.result()


async def test_reader_who_leaves_does_not_end_the_switch() -> None:
    job = Job(Wish(target="b"))
    waiting = asyncio.create_task(job.result())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    job.end(RECEIPT)
    assert await job.result() == RECEIPT


class Backwards(ThreadPoolExecutor):
    """Does what it is given in the loop's next quiet moment, the latest first."""

    def __init__(self) -> None:
        super().__init__(1)
        self._given: list[tuple[Future[object], Callable[[], object]]] = []

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[object]:
        self._given.append((Future(), partial(fn, *args, **kwargs)))
        asyncio.get_running_loop().call_later(0.01, self._do)
        return self._given[-1][0]

    def _do(self) -> None:
        while self._given:
            future, call = self._given.pop()
            future.set_result(call())


class Recorder(Switcher):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ask(self, word: str, **_: object) -> Job:
        self.told.append(f"switch to {word}")
        job = Job(Wish(target=word))
        job.end(RECEIPT)
        return job

    def call_off(self, *, ticket: str | None = None, switch_id: int | None = None) -> bool:
        assert switch_id is None
        self.told.append(f"call off {ticket}")
        return True


async def test_first_switch_that_is_called_off_at_once_is_asked_for_before() -> None:
    asyncio.get_running_loop().set_default_executor(Backwards())
    recorder = Recorder()
    routes = SwitchRoutes(lambda: recorder, note="/nowhere")
    wish, word = b'{"model": "b", "ticket": "mine"}', b'{"ticket": "mine"}'
    await asyncio.gather(
        routes.switch(Request("POST", "/switch", {}, {}, {}, wish)),
        routes.cancel(Request("POST", "/switch/cancel", {}, {}, {}, word)),
    )
    assert recorder.told == ["switch to b", "call off mine"]


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("looks", "free", "pauses"),
    [
        ([100, 100, 100], True, 2),
        ([100, 200, 300, 301, 302, 301], True, 4),
        ([None], True, 0),
        ([100, None], True, 1),
    ],
)
async def test_memory_is_free_once_it_rises_no_more(looks: list[int | None], free: bool, pauses: int) -> None:
    seen = chain((None if one is None else one * MIB for one in looks), repeat(None))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    assert await memory_release.wait_until_released(lambda: next(seen), sleep=sleep) == free
    assert len(slept) == pauses


async def test_memory_that_rises_for_ever_is_not_waited_for() -> None:
    rising = iter(range(0, 10**12, 100 * MIB))

    async def sleep(_: float) -> None: ...

    assert not await memory_release.wait_until_released(lambda: next(rising), sleep=sleep)


def test_memory_of_this_host_is_told(tmp_path: Path) -> None:
    assert (memory_release.available_bytes() or 0) > 0
    (tmp_path / "meminfo").write_text("MemTotal: 5 kB\nMemAvailable:    3 kB\n")
    assert memory_release.available_bytes(str(tmp_path / "meminfo")) == 3 * 1024
    assert memory_release.available_bytes(str(tmp_path / "none")) is None
