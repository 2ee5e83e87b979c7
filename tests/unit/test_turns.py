"""One answer a turn of the loop, so that others are looked at in between."""

import asyncio
import itertools

from infer_dev.api.turns import Shared, Turns


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


async def test_an_answer_is_shared_by_those_who_asked_before_it_was_made() -> None:
    shared, made = Shared[int](), []

    def make() -> int:
        made.append(1)
        return len(made)

    answers = await asyncio.gather(*(shared.get("a", make) for _ in range(8)))
    assert answers == [1] + [2] * 7, "the first was made when nobody else had asked yet"
    assert await shared.get("a", make) == 3


async def test_an_answer_is_never_older_than_the_question() -> None:
    shared, now, wrong = Shared[int](), [0], []

    async def ask() -> None:
        for _ in range(50):
            asked_at = now[0]
            answer = await shared.get("a", lambda: now[0])
            wrong.extend([answer] if answer < asked_at else [])
            now[0] += 1

    await asyncio.gather(*(ask() for _ in range(8)))
    assert wrong == []


async def test_another_question_gets_an_answer_of_its_own() -> None:
    shared = Shared[str]()
    asked = ["a", "a", "b", "a", "b", "b"]
    assert await asyncio.gather(*(shared.get(key, lambda key=key: key) for key in asked)) == asked


async def test_a_question_that_cannot_be_answered_spoils_no_other() -> None:
    shared = Shared[int]()

    def fail() -> int:
        raise ValueError("no")

    answers = await asyncio.gather(
        shared.get("a", lambda: 1), shared.get("b", fail), shared.get("a", lambda: 2), return_exceptions=True
    )
    assert answers[0] == 1
    assert isinstance(answers[1], ValueError)
    assert answers[2] == 2
