"""One answer a turn of the loop, so that others are looked at in between."""

import asyncio
import itertools

from infer_dev.api.turns import Turns


async def test_others_come_between_two_turns() -> None:
    turns, seen = Turns(), []

    async def ask(number: int) -> None:
        await turns.take()
        seen.append(number)

    async def other() -> None:
        for _ in range(40):
            seen.append("other")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(ask(number))
        tasks.create_task(other())
    asked = [at for at, one in enumerate(seen) if one != "other"]
    assert [seen[at] for at in asked] == list(range(8)), "in the order of asking"
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(asked))


async def test_who_is_gone_takes_no_turn_and_keeps_nobody_from_his() -> None:
    turns, seen = Turns(), []

    async def ask(number: int) -> None:
        await turns.take()
        seen.append(number)

    tasks = [asyncio.create_task(ask(number)) for number in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert seen == [0, 3]
    await asyncio.wait_for(turns.take(), 10)


async def test_a_turn_is_there_at_once_when_nobody_else_asks() -> None:
    turns = Turns()
    taking = turns.take()
    try:
        taking.send(None)
    except StopIteration:
        return
    raise AssertionError("it had to wait")
