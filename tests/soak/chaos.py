"""What goes wrong, and who asks for what, all the time and all at once."""

import json
import os
import random
import signal
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infer_dev.api.client import DaemonClient, caller_request, instance_target, logs_target
from infer_dev.errors import InferDevError
from tests.soak.census import census
from tests.soak.rack import NAMES, REAL, Rack

REQUEST_TIMEOUT_S = 60.0
FOLLOW_S = (0.2, 6.0)
CHAT_TIMEOUT_S = 10.0


class Interlude:
    """Lets many act at once, and now and then one be sure that nobody does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._acting = 0
        self._closed = False

    @contextmanager
    def acting(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._acting += 1
        try:
            yield
        finally:
            with self._changed:
                self._acting -= 1
                self._changed.notify_all()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._acting == 0)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


class Chaos:
    """Threads that each do one kind of thing at random intervals until `close`."""

    def __init__(self, rack: Rack, runtime: Path, environ: dict[str, str], seed: int) -> None:
        self.interlude = Interlude()
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._rack, self._runtime, self._environ = rack, runtime, environ
        self._client = DaemonClient(str(runtime))
        self._ending = threading.Event()
        self._seeds = random.Random(seed)
        # What is done, and the mean seconds between two of it in one thread.
        acts: tuple[tuple[Callable[[random.Random], None], float], ...] = (
            *((self.by_hand, 0.4),) * 2,
            (self.kill_instance, 0.7),
            (self.reload, 3.0),
            (self.up, 5.0),
            *((self.chat, 0.2),) * 2,
            *((self.follow_log, 0.5),) * 2,
            (self.follow_events, 0.5),
            (self.ask_status, 0.5),
        )
        self._threads = [threading.Thread(target=self._go_on, args=act, daemon=True) for act in acts]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(REQUEST_TIMEOUT_S)

    def _go_on(self, act: Callable[[random.Random], None], mean_s: float) -> None:
        rng = random.Random(self._seeds.random())
        while not self._ending.wait(rng.expovariate(1 / mean_s)):
            with self.interlude.acting():
                try:
                    act(rng)
                    self.done[act.__name__] += 1
                except InferDevError as err:
                    self.refused[f"{act.__name__}: {err.message}"] += 1
                except (OSError, ValueError) as err:  # an answer cut short by the daemon's end
                    self.refused[f"{act.__name__}: {type(err).__name__}"] += 1

    def by_hand(self, rng: random.Random) -> None:
        action = rng.choice(("start", "start", "stop", "restart"))
        self._client.post(instance_target(rng.choice(NAMES), action), timeout_s=REQUEST_TIMEOUT_S)

    def kill_instance(self, rng: random.Random) -> None:
        """SIGKILL to any process of any instance, children included."""
        if found := census(self._runtime):
            with suppress(ProcessLookupError):
                os.kill(rng.choice(found).pid, signal.SIGKILL)

    def reload(self, rng: random.Random) -> None:
        self._rack.write(rng, changed=rng.choice((0, 1, 3)))
        self._client.post("/reload", {"config": None}, timeout_s=REQUEST_TIMEOUT_S)

    def up(self, rng: random.Random) -> None:
        file = str(rng.choice(self._rack.files))
        self._client.post("/up", caller_request(file, self._environ), timeout_s=REQUEST_TIMEOUT_S)

    def chat(self, rng: random.Random) -> None:
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": rng.choice((1, 32))}
        port = self._rack.ports[rng.choice(REAL)]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=CHAT_TIMEOUT_S) as response:
            response.read()

    def follow_log(self, rng: random.Random) -> None:
        target = logs_target(rng.choice(NAMES), tail=rng.choice((0, 10)), follow=True)
        self._drink(target, rng)

    def follow_events(self, rng: random.Random) -> None:
        kept = list(self._client.events(0, follow=False, timeout_s=REQUEST_TIMEOUT_S)) if rng.random() < 0.5 else []
        self._drink(f"/events?after={max((one['id'] for one in kept), default=0)}&follow=1", rng)

    def _drink(self, target: str, rng: random.Random) -> None:
        """Read a stream that never ends, and hang up after a while."""
        with suppress(InferDevError):
            for _ in self._client.stream(target, timeout_s=rng.uniform(*FOLLOW_S)):
                pass

    def ask_status(self, _: random.Random) -> None:
        self._client.get("/status?log_line=1", timeout_s=REQUEST_TIMEOUT_S)
