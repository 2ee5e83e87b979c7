import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infer_dev.supervisor.history import History, Journal


def add(history: History, new: str) -> int:
    return history.add(instance="a", old="stopped", new=new, after_s=1.23456).id


def test_records_have_ascending_ids_and_the_given_time() -> None:
    history = History(now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    assert [add(history, "starting"), add(history, "ready")] == [1, 2]
    record = history.since(1)[0]
    assert (record.id, record.time, record.after_s) == (2, "2026-01-02T00:00:00.000+00:00", 1.235)


def test_only_the_latest_records_are_kept() -> None:
    history = History(kept=2)
    for _ in range(5):
        add(history, "ready")
    assert [record.id for record in history.since(0)] == [4, 5]


async def test_follow_gives_old_and_new_records_and_ends_when_closed() -> None:
    history = History()
    add(history, "starting")

    async def collect() -> list[str]:
        return [record.new async for record in history.follow(0)]

    task = asyncio.create_task(collect())
    await asyncio.sleep(0)
    add(history, "ready")
    await asyncio.sleep(0)
    add(history, "stopping")
    history.close()
    assert await asyncio.wait_for(task, 5) == ["starting", "ready", "stopping"]


async def test_many_readers_each_get_everything() -> None:
    history = History()

    async def collect() -> int:
        return len([record async for record in history.follow(0)])

    tasks = [asyncio.create_task(collect()) for _ in range(20)]
    for _ in range(50):
        add(history, "ready")
        await asyncio.sleep(0)
    history.close()
    assert set(await asyncio.wait_for(asyncio.gather(*tasks), 5)) == {50}


def fail(history: History, instance: str = "a") -> None:
    history.add(instance=instance, old="ready", new="failed", after_s=1.5, pid=7, cause="killed", log_tail=("ä",))


def test_history_goes_on_in_the_next_daemon(tmp_path: Path) -> None:
    path = str(tmp_path / "history.jsonl")
    first = History(journal=Journal(path))
    fail(first, "a")
    fail(first, "b")
    second = History(journal=Journal(path))
    assert second.since(0) == first.since(0)
    fail(second, "c")
    assert [(one.id, one.instance) for one in second.since(0)] == [(1, "a"), (2, "b"), (3, "c")]


def test_history_file_is_bounded_by_records(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(kept=10, journal=Journal(str(path), kept=10))
    for _ in range(95):
        fail(history)
        assert len(path.read_text().splitlines()) <= 20
    again = History(kept=10, journal=Journal(str(path), kept=10))
    assert [one.id for one in again.since(0)] == list(range(86, 96))


def test_history_file_is_bounded_by_bytes(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(journal=Journal(str(path), kept_bytes=4000))
    for _ in range(300):
        fail(history)
        assert path.stat().st_size <= 8200
    assert History(journal=Journal(str(path))).last_id == 300


@pytest.mark.parametrize("end", [b'{"id": 3, "instance"', b"\xff\xfe\n", b'{"id": "x"}\n', b"[]\n", b"\n"])
def test_line_that_is_no_record_costs_only_itself(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "history.jsonl"
    first = History(journal=Journal(str(path)))
    fail(first, "a")
    with path.open("ab") as file:
        file.write(end)
    second = History(journal=Journal(str(path)))
    fail(second, "b")
    assert [one.instance for one in History(journal=Journal(str(path))).since(0)] == ["a", "b"]


def test_history_that_cannot_be_written_is_told_once_and_kept_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "gone" / "history.jsonl"
    history = History(journal=Journal(str(path)))
    fail(history)
    fail(history)
    assert history.last_id == 2
    assert caplog.text.count("cannot write the history") == 1
    path.parent.mkdir()
    fail(history)
    assert [one.id for one in History(journal=Journal(str(path))).since(0)] == [3]
