"""Events of all kinds: how they come about, are chosen, and read."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from infer_dev.api import events
from infer_dev.api.http import Request
from infer_dev.api.routes import Routes
from infer_dev.api.switch import SwitchRoutes
from infer_dev.cli.progress import transition_line
from infer_dev.errors import ConfigError, NotFoundError, UsageError
from infer_dev.host.runtime.notes import leave_boot_errors
from infer_dev.plan.diff import Changes
from infer_dev.supervisor.boot_errors import BootErrors
from infer_dev.supervisor.history import PIECE_RECORDS, History, Journal, Kind
from infer_dev.supervisor.reconcile import UpResult
from infer_dev.supervisor.reloads import changes_in_words, recorded
from tests.parts.switch_rig import running_rig


def add(history: History, kind: str = Kind.TRANSITION, **fields: str) -> None:
    history.add(**{"instance": "a", "old": "starting", "new": "ready"} | fields, after_s=1.5, kind=kind)


def lines(history: History) -> list[str]:
    return [
        transition_line(json.loads(event.partition(b"data: ")[2])) for event in map(events.to_sse, history.since(0))
    ]


def outcome(**changes: tuple[str, ...]) -> UpResult:
    return UpResult(enabled=True, waiting=(), attached=(), last_id=0, changes=Changes(**changes))


async def test_many_who_ask_for_all_events_at_once_let_others_come_between(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        add(rig.supervisor.history)
        switching = SwitchRoutes(lambda: rig.switcher, note=str(tmp_path / "none"))
        routes = Routes(rig.supervisor, switching, address="")
        request = Request("GET", "/events", {}, {"follow": "0"}, {}, b"")
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(other())
        answers = await asyncio.gather(*(routes.events(request) for _ in range(50)))
        counting.cancel()
    assert turns >= len(answers) - 1
    assert {answer.body for answer in answers} == {events.latest(rig.supervisor.history, 0)}


async def test_events_of_some_kinds_leave_out_the_others() -> None:
    history = History()
    for kind in (Kind.TRANSITION, Kind.RELOAD, Kind.SWITCH, Kind.RELOAD):
        add(history, kind)
    history.close()
    streamed = [piece async for piece in events.stream(history, 0, events.kinds_of("reload,switch"))]
    assert [piece.splitlines()[:2] for piece in streamed] == [
        [b"id: 2", b"event: reload"],
        [b"id: 3", b"event: switch"],
        [b"id: 4", b"event: reload"],
    ]
    assert events.latest(history, 2, events.kinds_of("reload")) == streamed[2]


def test_a_kind_from_a_newer_daemon_is_shown_unless_others_are_asked_for() -> None:
    history = History()
    add(history, "newer")
    assert b"event: newer" in events.latest(history, 0, events.kinds_of(""))
    assert events.latest(history, 0, events.kinds_of("switch")) == b""


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="unknown 'relaod'") as refused:
        events.kinds_of("reload,relaod")
    assert "boot-error" in refused.value.hint


def test_the_end_of_a_switch_is_told_as_such() -> None:
    history = History()
    add(history, Kind.SWITCH, old="proof", new="done", instance="b", detail="from a")
    assert lines(history) == ["switch b done, proof took 1.5s: from a"]


async def test_a_reload_is_recorded_with_what_changed_in_each_file() -> None:
    history = History()

    async def reload() -> dict[str, UpResult]:
        return {"/a.toml": outcome(changed=("x", "y"), gone=("z",), unchanged=("u",)), "/b.toml": outcome()}

    await recorded(history, ["/a.toml", "/b.toml"], reload())
    assert lines(history) == ["reload: /a.toml: gone z; changed x, y", "reload: /b.toml: nothing changed"]


async def test_a_reload_that_fails_is_recorded_with_why() -> None:
    history = History()

    async def reload(error: Exception) -> dict[str, UpResult]:
        raise error

    for error in (ConfigError("cannot parse /a.toml:3: no"), ConfigError("cannot do it"), RuntimeError("a bug")):
        with pytest.raises(type(error)):
            await recorded(history, ["/a.toml"], reload(error))
    with pytest.raises(NotFoundError):
        await recorded(history, ["/a.toml"], reload(NotFoundError("cannot use /a.toml")))
    assert lines(history) == [
        "reload failed: cannot parse /a.toml:3: no",
        "reload failed: /a.toml: cannot do it",
        "reload failed: /a.toml: internal error: see the daemon's log",
    ]


def test_a_switch_reads_as_its_phases_come() -> None:
    history = History()
    add(history, Kind.SWITCH, old="", new="drain", detail="from b")
    add(history, Kind.SWITCH, old="drain", new="stop", detail="from b")
    add(history, Kind.SWITCH, old="proof", new="failed", cause="wedged", detail="no completion")
    assert lines(history) == [
        "switch a drain: from b",
        "switch a stop, drain took 1.5s: from b",
        "switch a failed, proof took 1.5s: wedged: no completion",
    ]


def test_a_file_that_is_switched_off_says_so() -> None:
    assert "enable is false" in changes_in_words(Changes(), enabled=False)


def test_boot_errors_are_recorded_once_and_when_they_are_gone(tmp_path: Path) -> None:
    history = History()
    errors = BootErrors(str(tmp_path), history)
    errors.look()
    leave_boot_errors(str(tmp_path), ["cannot install\nno such archive", "cannot start sshd"])
    errors.look()
    errors.look()
    leave_boot_errors(str(tmp_path), ["cannot start sshd"])
    errors.look()
    assert lines(history) == [
        "boot-error: cannot install; no such archive",
        "boot-error: cannot start sshd",
        "boot-error cleared: cannot install; no such archive",
    ]


def test_the_next_daemon_tells_only_what_is_new_of_boot(tmp_path: Path) -> None:
    path = str(tmp_path / "history.jsonl")
    leave_boot_errors(str(tmp_path), ["cannot a"])
    BootErrors(str(tmp_path), History(journal=Journal(path))).look()
    leave_boot_errors(str(tmp_path), ["cannot b"])
    after = History(journal=Journal(path))
    BootErrors(str(tmp_path), after).look()
    assert lines(after) == ["boot-error: cannot a", "boot-error: cannot b", "boot-error cleared: cannot a"]
    os.unlink(tmp_path / "boot-error")
    last = History(journal=Journal(path))
    BootErrors(str(tmp_path), last).look()
    assert lines(last)[-1] == "boot-error cleared: cannot b"


def test_a_boot_error_file_of_anybody_floods_nothing(tmp_path: Path) -> None:
    history = History()
    (tmp_path / "boot-error").write_bytes(b"\x1b[2J\xff\n" * 10_000)
    BootErrors(str(tmp_path), history).look()
    assert len(history.since(0)) <= 16
    assert "\x1b" not in "".join(lines(history))


async def test_a_reader_that_stands_still_holds_few_records_and_misses_none_that_are_kept() -> None:
    history = History()
    for _ in range(PIECE_RECORDS * 3):
        add(history)
    reader = history.follow(0)
    first = await anext(reader)
    add(history, new="failed")
    history.close()
    ids = [first.id] + [record.id async for record in reader]
    assert ids == list(range(1, PIECE_RECORDS * 3 + 2))


def test_a_watcher_sees_each_record_as_it_comes() -> None:
    history, seen = History(kept=1), []
    add(history)
    history.watch(lambda record: seen.append(record.id))
    for _ in range(3):
        add(history)
    assert seen == [2, 3, 4]


def test_a_line_of_the_history_with_something_strange_in_it_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    add(History(journal=Journal(str(path))))
    path.write_text(path.read_text().replace('"cause": null', '"cause": {"x": []}') + path.read_text())
    assert len(History(journal=Journal(str(path))).since(0)) == 1


async def test_a_hundred_readers_get_the_same_bytes_without_each_making_them() -> None:
    history = History()
    add(history)
    history.close()
    made = [[piece async for piece in events.stream(history, 0)] for _ in range(100)]
    assert len({id(pieces[0]) for pieces in made}) == 1
