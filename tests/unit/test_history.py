import asyncio
from datetime import UTC, datetime

from infer_dev.supervisor.history import History


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
