"""Turns: what many ask for at once is answered one at a time, with a look at everything else between two."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns:
    """Lets one task go on with each turn of the event loop.

    Without it, a loop that finds eight requests answers all of them before it looks who else wants something: an
    instance that has just been killed, say, and each of the steps of its restart, would wait for all eight.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False

    async def take(self) -> None:
        """Wait for a turn, in the order of asking; the first one goes on at once."""
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken = True
            loop.call_soon(self._give, loop)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else whoever waited is gone
                turn.set_result(None)
                loop.call_soon(self._give, loop)
                return
        self._is_taken = False


class Shared(Generic[T]):
    """An answer that is made once for all who asked the same before it was made, and given out in turns.

    So nobody gets one that is older than his question.
    """

    def __init__(self) -> None:
        self._turns = Turns()
        self._made = 0
        self._key: Hashable = None
        self._answer: list[T] = []

    async def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, for this question or another one of the same key."""
        made_before = self._made
        await self._turns.take()
        if self._made == made_before or self._key != key:
            self._answer = [make()]
            self._key, self._made = key, self._made + 1
        return self._answer[0]
