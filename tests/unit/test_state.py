"""What a daemon leaves to its successor, and what that makes of files that are not as they should be."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from infer_dev.llama_cpp.cause import Cause
from infer_dev.plan.model import Command, Endpoint, Policy, Source, Spec
from infer_dev.supervisor.lifecycle import Exited, Failure, Life, State
from infer_dev.supervisor.state import ProcessRecord, StateStore

SPEC = Spec(
    name="a",
    source="/x.toml",
    command=Command(argv=("s", "--x", "ä\udcff"), env={"A": "1"}, cwd="/", log_file="/a.log"),
    endpoint=Endpoint(bind_host="0.0.0.0", dial_host="127.0.0.1", port=1, api_key="k"),
    policy=Policy(restart="always", backoff_s=0.5),
    start_after=("b",),
)
KILLED = Failure(cause=Cause.KILLED, detail="signal SIGKILL", exit_status=-9, log_tail=("one", "two"))
LIFE = Life(
    state=State.STOPPING,
    rest=State.DISABLED,
    wanted=True,
    served=True,
    draining=True,
    killed=True,
    due=12.5,
    attempt=2,
    recent=(1.0, 2.5),
    restarts=3,
    failure=KILLED,
    verdict=replace(KILLED, cause=Cause.WEDGED),
    end=Exited(KILLED, clean=False, jitter=0.25),
)
PROCESS = ProcessRecord(pid=7, start_time=99, spawned_at=1.5, ready_after_s=2.0, log_start=10, spawn="1f")


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(str(tmp_path), "this-life")


def file_of(tmp_path: Path, name: str = "a") -> Path:
    return tmp_path / "instances" / f"{name}.json"


def test_state_comes_back_as_it_was_saved(store: StateStore) -> None:
    store.save(SPEC, LIFE, PROCESS, now=10.0, digest="d")
    source = Source(path="/x.toml", overrides="{}", search_path="/bin")
    store.save_sources({"/x.toml": source}, ["a"])
    saved = store.load()
    found = saved.records["a"]
    assert (found.spec, found.life, found.process) == (SPEC, LIFE, PROCESS)
    assert (found.saved_at, found.digest, found.life_id) == (10.0, "d", "this-life")
    assert saved.sources == {"/x.toml": source}


def test_records_come_back_in_the_order_in_which_they_are_shown(store: StateStore) -> None:
    for name in ("a", "b", "c"):
        store.save(replace(SPEC, name=name), LIFE, None, now=1.0)
    store.save_sources({"/x.toml": Source(path="/x.toml", overrides=None, search_path="")}, ["c", "a"])
    assert list(store.load().records) == ["c", "a", "b"]


def test_only_a_change_is_written(store: StateStore, tmp_path: Path) -> None:
    store.save(SPEC, LIFE, PROCESS, now=1.0)
    file_of(tmp_path).unlink()
    store.save(SPEC, LIFE, PROCESS, now=2.0)
    assert not file_of(tmp_path).exists()
    store.save(SPEC, replace(LIFE, attempt=3), PROCESS, now=3.0)
    assert file_of(tmp_path).exists()
    file_of(tmp_path).unlink()
    store.forget_written()
    store.save(SPEC, replace(LIFE, attempt=3), PROCESS, now=4.0)
    assert file_of(tmp_path).exists()


def test_removed_state_is_gone(store: StateStore, tmp_path: Path) -> None:
    store.save(SPEC, LIFE, PROCESS, now=1.0)
    store.save_sources({"/x": Source(path="/x", overrides=None, search_path="")}, ["a"])
    store.remove("a")
    store.save_sources({}, [])
    assert list(tmp_path.iterdir()) == []


def test_state_is_for_its_owner_alone(store: StateStore, tmp_path: Path) -> None:
    store.save(SPEC, LIFE, PROCESS, now=1.0)
    assert file_of(tmp_path).stat().st_mode & 0o077 == 0
    assert file_of(tmp_path).parent.stat().st_mode & 0o077 == 0


def test_state_of_another_life_is_forgotten(store: StateStore, tmp_path: Path) -> None:
    store.save(SPEC, LIFE, PROCESS, now=1.0)
    store.save_sources({"/x": Source(path="/x", overrides=None, search_path="")}, ["a"])
    saved = StateStore(str(tmp_path), "next-life").load()
    assert (saved.records, saved.sources) == ({}, {})
    assert list((tmp_path / "instances").iterdir()) == []


def damaged(text: bytes) -> list[bytes]:
    """Ways in which a file may not be what it was."""
    whole = json.loads(text)
    life, process, digest = whole["state"]
    return [
        b"",
        text[: len(text) // 2],
        os.urandom(200),
        b"[]",
        b"null",
        b"[" * 100_000,
        json.dumps({**whole, "format": 2}).encode(),
        json.dumps({**whole, "spec": {}}).encode(),
        json.dumps({**whole, "spec": {**whole["spec"], "of_tomorrow": 1}}).encode(),
        json.dumps({**whole, "state": [{**life, "state": "dancing"}, process, digest]}).encode(),
        json.dumps({**whole, "state": [{**life, "recent": ["x"]}, process, digest]}).encode(),
        json.dumps({**whole, "state": [{**life, "attempt": -1}, process, digest]}).encode(),
        json.dumps({**whole, "state": [life, {**process, "pid": "7"}, digest]}).encode(),
        json.dumps({**whole, "state": [life, {**process, "pid": -1}, digest]}).encode(),
        json.dumps({**whole, "state": [life, {"pid": 7}, digest]}).encode(),
        json.dumps({**whole, "state": [life]}).encode(),
        json.dumps({**whole, "saved_at": None}).encode(),
    ]


@pytest.mark.parametrize("number", range(17))
def test_damaged_state_is_set_aside_with_its_reason(
    store: StateStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    for name in ("a", "b"):
        store.save(replace(SPEC, name=name), LIFE, PROCESS, now=1.0)
    text = damaged(file_of(tmp_path).read_bytes())[number]
    file_of(tmp_path).write_bytes(text)
    with caplog.at_level(logging.ERROR):
        saved = StateStore(str(tmp_path), "this-life").load()
    assert list(saved.records) == ["b"]
    assert not file_of(tmp_path).exists()
    assert (tmp_path / "instances" / "a.json.damaged").read_bytes() == text
    assert "cannot use the saved state" in caplog.text


def test_every_way_of_damage_is_tried(store: StateStore, tmp_path: Path) -> None:
    store.save(SPEC, LIFE, PROCESS, now=1.0)
    assert len(damaged(file_of(tmp_path).read_bytes())) == 17


def test_damaged_sources_are_set_aside(store: StateStore, tmp_path: Path) -> None:
    store.save(SPEC, LIFE, PROCESS, now=1.0)
    (tmp_path / "sources.json").write_text('{"format": 1, "life_id": "this-life", "sources": [{}], "order": []}')
    saved = store.load()
    assert (list(saved.records), saved.sources) == (["a"], {})
    assert (tmp_path / "sources.json.damaged").exists()


def test_state_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "instances").write_text("in the way")
    store = StateStore(str(tmp_path), "this-life")
    for attempt in range(3):
        store.save(SPEC, replace(LIFE, attempt=attempt), PROCESS, now=1.0)
    assert caplog.text.count("cannot save the state") == 1
    (tmp_path / "instances").unlink()
    store.save(SPEC, replace(LIFE, attempt=2), PROCESS, now=1.0)
    assert store.load().records["a"].life.attempt == 2


def test_store_tells_that_it_is_behind_until_all_is_written(store: StateStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        blocked = file_of(tmp_path, f"{name}.json").with_suffix(".new")
        blocked.mkdir(parents=True)
        store.save(replace(SPEC, name=name), LIFE, PROCESS, now=0.0)
    assert store.is_behind
    file_of(tmp_path, "a.json").with_suffix(".new").rmdir()
    store.save(SPEC, LIFE, PROCESS, now=0.0)
    assert store.is_behind
    store.remove("b")
    assert not store.is_behind
    assert store.load().records["a"].life == LIFE


def test_nothing_saved_is_nothing(store: StateStore) -> None:
    saved = store.load()
    assert (saved.records, saved.sources) == ({}, {})
