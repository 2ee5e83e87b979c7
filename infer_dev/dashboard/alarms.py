"""Which events are told on top of everything, and in which words."""

import time
from collections import deque

from infer_dev.dashboard.picture import Json

SHOWN_S = 6.0
MOST = 3  # at a time
MOST_CHARS = 100
MORE = "more than that fails: e shows all events"


class Alarms:
    """Failures, also those after which it is started again at once.

    Many at a time are told as that: the screen is there for more than them.
    """

    def __init__(self) -> None:
        self._told: deque[float] = deque()  # when those were told that are still to be seen

    def words(self, event: Json) -> str:
        """What to tell of an event that has just happened; "" for nothing."""
        kind, name, new = event.get("kind", "transition"), event.get("instance"), event.get("new")
        if kind == "switch" and new == "failed":
            head = f"switch to {name} failed"
        elif kind == "transition" and event.get("cause"):
            head = f"{name} {new}"
        else:
            return ""
        now = time.monotonic()
        while self._told and now - self._told[0] > SHOWN_S:
            self._told.popleft()
        if len(self._told) > MOST:
            return ""
        self._told.append(now)
        if len(self._told) > MOST:
            return MORE
        why = " ".join(": ".join(str(event[key]) for key in ("cause", "detail") if event.get(key)).split())
        return ": ".join(
            part for part in (head, why if len(why) <= MOST_CHARS else why[: MOST_CHARS - 1] + "…") if part
        )
