"""The watch's judgement over minutes and hours, in a world whose clock moves only while the watch sleeps."""

import contextlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from infer_dev.plan.model import Command, Endpoint, Policy, Spec
from infer_dev.supervisor.health import Reply, Subject, watch
from infer_dev.supervisor.health.subject import Outside
from infer_dev.supervisor.lifecycle import BecameReady, Event, Impostor, ProbeFailed, ProbePassed

MINUTE_S = 60.0
HOUR_S = 3600.0
LOADING = Reply("/health", 503, b'{"error":{"message":"Loading model","code":503}}')
OK = Reply("/health", 200)
LATE = Reply("/health", error="no answer within 5 s", is_late=True)


class OverError(Exception):
    """The world has come to its end."""


@dataclass
class World(Outside):
    """A server that works as its fields say; `plan` changes them when their time has come."""

    args: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)
    plan: dict[float, Callable[[], object]] = field(default_factory=dict)
    now_s: float = 0.0
    healthy: Reply = OK
    answers: dict[str, Reply] = field(default_factory=dict)
    busy: bool = False
    tokens: int = 0
    tokens_per_s: float = 0.0
    cpu_per_s: float = 0.0
    asleep: bool = False
    who: str = ""
    log: int = 0
    log_per_s: int = 0
    asked: list[tuple[float, str]] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)
    used_s: float = 0.0

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.pass_time(seconds)
        for when in sorted(self.plan):
            if when <= self.now_s:
                self.plan.pop(when)()

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.tokens += round(seconds * self.tokens_per_s)
        self.used_s += seconds * self.cpu_per_s
        self.log += round(seconds * self.log_per_s)

    async def health(self) -> Reply:
        return self.tell(self.healthy)

    async def ask(self, path: str, *, body: bytes | None = None, timeout_s: float | None = None) -> Reply:  # noqa: ARG002 - as outside
        known = {
            "/slots": self.slots(),
            "/props": Reply("/props", 200, json.dumps({"is_sleeping": self.asleep}).encode()),
            "/completion": Reply("/completion", 200),
        }
        reply = self.answers.get(path) or known.get(path, Reply(path, 404))
        if reply.is_late:
            self.pass_time((timeout_s or 5) - 5)
        return self.tell(reply)

    def tell(self, reply: Reply) -> Reply:
        self.asked.append((self.now_s, reply.path))
        if reply.is_late:
            self.pass_time(5)
        return reply

    def slots(self) -> Reply:
        busy = {"id": 0, "is_processing": self.busy, "id_task": 7, "next_token": [{"n_decoded": self.tokens}]}
        return Reply("/slots", 200, json.dumps([busy, {"id": 1, "is_processing": False}]).encode())

    async def stranger(self) -> str:
        self.asked.append((self.now_s, "who"))
        return self.who

    def cpu_s(self, *, whole_group: bool = False) -> float:  # noqa: ARG002 - as outside
        return self.used_s

    def log_bytes(self) -> int:
        return self.log

    def spec(self) -> Spec:
        return Spec(
            name="a",
            source="/f.toml",
            command=Command(argv=("llama-server", *self.args), cwd="/", log_file="/dev/null"),
            endpoint=Endpoint(bind_host="127.0.0.1", dial_host="127.0.0.1", port=8080),
            policy=self.policy,
        )

    async def run(self, until_s: float, *, is_ready: bool = False, is_degraded: bool = False) -> list[Event]:
        def end() -> None:
            raise OverError

        self.plan[until_s] = end
        subject = Subject(spec=self.spec, pid=1, is_ready=is_ready, is_degraded=is_degraded, clock=self.clock)
        with contextlib.suppress(OverError):
            await watch(subject, lambda event: self.events.append((self.now_s, event)), self)
        return [event for _, event in self.events]

    def becomes(self, **fields: object) -> Callable[[], None]:
        def change() -> None:
            for name, value in fields.items():
                setattr(self, name, value)

        return change

    def times(self, path: str, since_s: float = 0.0) -> int:
        return sum(1 for when, what in self.asked if what == path and when >= since_s)


async def test_ready_is_told_once_and_each_change_once() -> None:
    world = World(healthy=LOADING)
    world.plan = {
        2: world.becomes(healthy=OK),
        30: world.becomes(healthy=Reply("/health", 500)),
        50: world.becomes(healthy=OK),
    }
    assert await world.run(HOUR_S) == [BecameReady(), ProbeFailed("/health: HTTP 500"), ProbePassed()]
    assert world.times("who") == 2, "who answers is looked up when it is ready and when it is back, and not else"


async def test_first_polls_begin_at_10_ms_and_grow_to_250_ms() -> None:
    world = World(healthy=Reply("/health", error="Connection refused"))
    await world.run(10)
    times = [when for when, _ in world.asked]
    pauses = [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]
    assert (pauses[0], pauses[-1]) == (0.01, 0.25)
    assert pauses == sorted(pauses)
    assert len(pauses) < 130


async def test_two_failures_are_not_told() -> None:
    world = World()
    world.plan = {12: world.becomes(healthy=Reply("/health", 500)), 21: world.becomes(healthy=OK)}
    assert await world.run(HOUR_S) == [BecameReady()]


async def test_adopted_ready_is_told_to_be_well_and_not_to_have_become_ready() -> None:
    world = World()
    assert await world.run(HOUR_S, is_ready=True) == [ProbePassed()]
    assert world.events[0][0] == 0


async def test_adopted_that_answers_no_more_is_degraded() -> None:
    world = World(healthy=Reply("/health", error="Connection refused"))
    assert await world.run(HOUR_S, is_ready=True) == [ProbeFailed("/health: Connection refused")]


async def test_adopted_that_loads_again_is_asked_no_more_often_than_others() -> None:
    world = World(healthy=LOADING)
    assert await world.run(600, is_ready=True) == []
    assert world.times("/health") <= 121


async def test_host_that_is_short_of_files_is_not_the_servers_fault() -> None:
    short = Reply("/health", error="Too many open files", is_unasked=True)
    world = World()
    world.plan = {100: world.becomes(healthy=short, answers={"/slots": short, "/completion": short})}
    assert await world.run(HOUR_S) == [BecameReady()]


async def test_canary_that_could_not_be_sent_is_no_failure() -> None:
    world = World(answers={"/completion": Reply("/completion", error="Too many open files", is_unasked=True)})
    assert await world.run(HOUR_S) == [BecameReady()]


async def test_adopted_degraded_has_to_pass_a_canary() -> None:
    world = World(answers={"/completion": Reply("/completion", 500)})
    world.plan = {50: world.becomes(answers={})}
    assert await world.run(HOUR_S, is_degraded=True) == [
        ProbeFailed("a completion of one token failed: HTTP 500"),
        ProbePassed(),
    ]
    assert 50 <= world.events[1][0] <= 60


async def test_adopted_degraded_without_a_canary_passes_by_health() -> None:
    world = World(policy=Policy(canary_interval_s=0))
    assert await world.run(HOUR_S, is_degraded=True) == [ProbePassed()]


async def test_loading_again_is_no_failure_until_the_ready_timeout() -> None:
    world = World(policy=Policy(ready_timeout_s=600))
    world.plan = {100: world.becomes(healthy=LOADING), 650: world.becomes(healthy=OK)}
    assert await world.run(HOUR_S) == [BecameReady()]
    world = World(policy=Policy(ready_timeout_s=600))
    world.plan = {100: world.becomes(healthy=LOADING), 900: world.becomes(healthy=OK)}
    assert await world.run(HOUR_S) == [
        BecameReady(), ProbeFailed("loading again, not ready after 600 s"), ProbePassed()
    ]  # fmt: skip


async def test_stranger_that_answers_first_is_told_and_ends_the_watch() -> None:
    world = World(who="python3 (pid 7)")
    assert await world.run(HOUR_S) == [Impostor("port 8080 is answered by python3 (pid 7), not by this instance")]
    assert world.now_s == 0


async def test_stranger_that_answers_after_a_failure_is_a_failure() -> None:
    world = World()
    world.plan = {
        30: world.becomes(healthy=Reply("/health", error="Connection refused")),
        36: world.becomes(healthy=OK, who="python3 (pid 7)"),
        100: world.becomes(who=""),
    }
    assert await world.run(HOUR_S) == [
        BecameReady(),
        ProbeFailed("/health: port 8080 is answered by python3 (pid 7), not by this instance"),
        ProbePassed(),
    ]


async def test_busy_without_a_token_is_told_after_the_timeout_and_passes_with_the_next_token() -> None:
    world = World()
    world.plan = {
        100: world.becomes(busy=True, tokens_per_s=10),
        1000: world.becomes(tokens_per_s=0),
        1500: world.becomes(tokens_per_s=10),
    }
    events = await world.run(HOUR_S)
    assert [type(event) for event in events] == [BecameReady, ProbeFailed, ProbePassed]
    assert events[1].detail.endswith("s without a token")
    assert 1300 <= world.events[1][0] <= 1340
    assert 1500 <= world.events[2][0] <= 1510, "what is ill is looked at with each probe"


async def test_busy_with_tokens_is_well_for_hours() -> None:
    world = World(busy=True, tokens_per_s=1)
    assert await world.run(5 * HOUR_S) == [BecameReady()]
    assert not world.times("/completion"), "a canary must not disturb"


@pytest.mark.parametrize("name", ["n_prompt_tokens_processed", "n_past", "n_prompt_tokens"])
async def test_reading_a_long_prompt_is_progress(name: str) -> None:
    class Reading(World):
        def slots(self) -> Reply:
            slot = {
                "id": 0,
                "is_processing": True,
                "id_task": 3,
                name: int(self.now_s),
                "next_token": {"n_decoded": 0},
            }
            return Reply("/slots", 200, json.dumps([slot]).encode())

    assert await Reading().run(HOUR_S) == [BecameReady()]


async def test_metrics_tell_of_a_stall_where_slots_are_off() -> None:
    class Metered(World):
        async def ask(self, path: str, **options: object) -> Reply:
            self.answers["/slots"] = Reply("/slots", 501)
            text = f"# HELP x\nllamacpp:n_decode_total {self.tokens}\nllamacpp:requests_processing {int(self.busy)}\n"
            self.answers["/metrics"] = Reply("/metrics", 200, text.encode())
            return await super().ask(path, **options)

    world = Metered(busy=True, tokens_per_s=1)
    world.plan = {1000: world.becomes(tokens_per_s=0)}
    events = await world.run(HOUR_S)
    assert [type(event) for event in events] == [BecameReady, ProbeFailed]
    assert world.times("/slots") == 1, "what is not offered is asked for once"


@pytest.mark.parametrize("status", [400, 401, 404, 501])
async def test_server_that_shows_no_work_is_judged_by_health_alone(status: int) -> None:
    world = World(answers={path: Reply(path, status) for path in ("/slots", "/metrics", "/completion")})
    assert await world.run(HOUR_S) == [BecameReady()]
    assert [world.times(path) for path in ("/slots", "/metrics", "/completion")] == [1, 1, 1]


async def test_slots_without_an_answer_are_a_stall_and_asked_ever_more_rarely() -> None:
    world = World(answers={"/slots": Reply("/slots", error="no answer within 5 s", is_late=True)})
    events = await world.run(400)
    assert [type(event) for event in events] == [BecameReady, ProbeFailed]
    told_s = world.events[1][0]
    assert sum(path == "/slots" and when < told_s for when, path in world.asked) <= 5
    assert not world.times("/completion")


async def test_broken_slots_are_no_signal() -> None:
    world = World(answers={"/slots": Reply("/slots", 200, b"<html>")}, policy=Policy(canary_interval_s=0))
    assert await world.run(HOUR_S) == [BecameReady()]


async def test_health_without_an_answer_is_no_failure_while_the_process_works() -> None:
    world = World(cpu_per_s=1.5)
    world.plan = {100: world.becomes(healthy=LATE), 380: world.becomes(healthy=OK)}
    assert await world.run(HOUR_S) == [BecameReady()]


async def test_health_without_an_answer_is_told_after_the_stall_timeout() -> None:
    world = World(cpu_per_s=1.5)
    world.plan = {100: world.becomes(healthy=LATE)}
    events = await world.run(HOUR_S)
    assert [type(event) for event in events] == [BecameReady, ProbeFailed]
    assert 400 <= world.events[1][0] <= 440


async def test_health_without_an_answer_is_none_while_the_log_shows_requests_ending() -> None:
    world = World(cpu_per_s=1.5, log_per_s=20)
    world.plan = {100: world.becomes(healthy=LATE)}
    assert await world.run(HOUR_S) == [BecameReady()]


async def test_health_without_an_answer_is_told_soon_if_the_process_stands_still() -> None:
    world = World(cpu_per_s=0.001)
    world.plan = {100: world.becomes(healthy=LATE)}
    assert await world.run(HOUR_S) == [BecameReady(), ProbeFailed("/health: no answer within 5 s")]
    assert world.events[1][0] <= 140


async def test_canary_that_fails_twice_is_told_and_only_a_canary_takes_it_back() -> None:
    world = World(answers={"/completion": Reply("/completion", 500)})
    world.plan = {900: world.becomes(answers={})}
    assert await world.run(HOUR_S) == [
        BecameReady(),
        ProbeFailed("a completion of one token failed: HTTP 500"),
        ProbePassed(),
    ]
    assert 300 <= world.events[1][0] <= 350
    assert 900 <= world.events[2][0] <= 910


async def test_canary_without_an_answer_is_told_if_nobody_else_is_served() -> None:
    world = World(answers={"/completion": Reply("/completion", error="no answer within 60 s", is_late=True)})
    events = await world.run(HOUR_S)
    assert events == [BecameReady(), ProbeFailed("a completion of one token failed: no answer within 60 s")]


async def test_canary_behind_somebody_elses_request_is_no_failure() -> None:
    class Queue(World):
        async def ask(self, path: str, **options: object) -> Reply:
            reply = await super().ask(path, **options)
            if path == "/completion":
                self.busy, self.tokens_per_s = True, 1
            return reply

    world = Queue(answers={"/completion": Reply("/completion", error="late", is_late=True)})
    assert await world.run(HOUR_S) == [BecameReady()]


async def test_canary_of_an_idle_server_comes_once_an_interval() -> None:
    world = World(policy=Policy(canary_interval_s=300))
    assert await world.run(HOUR_S + 30) == [BecameReady()]
    assert 10 <= world.times("/completion") <= 12


async def test_canary_leaves_a_long_prompt_in_its_slot_for_longer() -> None:
    class Talked(World):
        def slots(self) -> Reply:
            slot = {"id": 0, "is_processing": False, "n_prompt_tokens": 9 if self.times("/completion") else 9000}
            return Reply("/slots", 200, json.dumps([slot]).encode())

    world = Talked()
    await world.run(3 * HOUR_S)
    assert not any(when < 3000 for when, path in world.asked if path == "/completion")
    assert world.times("/completion") > 20, "as often as with any other, once it has gone"


@pytest.mark.parametrize("status", [400, 401, 404, 501])
async def test_canary_that_is_not_understood_is_the_last(status: int) -> None:
    world = World(answers={"/completion": Reply("/completion", status)})
    assert await world.run(HOUR_S) == [BecameReady()]
    assert world.times("/completion") == 1


async def test_canary_asks_an_embedding_of_an_embedding_server() -> None:
    world = World(args=("--embeddings",), answers={"/embeddings": Reply("/embeddings", 500)})
    assert await world.run(HOUR_S) == [BecameReady(), ProbeFailed("a request to /embeddings failed: HTTP 500")]
    assert not world.times("/completion")


async def test_sleeping_server_is_neither_woken_nor_kept_awake() -> None:
    world = World(args=("--sleep-idle-seconds", "60"), asleep=True)
    assert await world.run(5 * HOUR_S) == [BecameReady()]
    assert {path for _, path in world.asked} == {"/health", "/props", "who"}


async def test_server_that_can_sleep_is_looked_at_while_it_works() -> None:
    world = World(args=("--sleep-idle-seconds", "600"), busy=True, cpu_per_s=1)
    events = await world.run(400)
    assert [type(event) for event in events] == [BecameReady, ProbeFailed]


async def test_server_that_should_sleep_and_does_not_is_looked_at() -> None:
    world = World(args=("--sleep-idle-seconds", "60"), busy=True)
    events = await world.run(HOUR_S)
    assert [type(event) for event in events] == [BecameReady, ProbeFailed]
    assert "without a token" in events[1].detail


async def test_idle_steady_server_is_asked_once_in_10_s() -> None:
    world = World(policy=Policy(canary_interval_s=0))
    await world.run(MINUTE_S + 20 * MINUTE_S)
    assert sum(when > MINUTE_S for when, _ in world.asked) <= 120


async def test_time_in_which_everything_was_suspended_does_not_count() -> None:
    world = World(busy=True, policy=Policy(canary_interval_s=0))

    def suspend() -> None:
        world.now_s += HOUR_S

    world.plan = {100: suspend, HOUR_S + 200: world.becomes(busy=False)}
    assert await world.run(3 * HOUR_S) == [BecameReady()]


async def test_policy_may_change_while_it_runs() -> None:
    world = World(busy=True)

    def forgive() -> None:
        world.policy = replace(world.policy, stall_timeout_s=0, canary_interval_s=0)

    world.plan = {600: forgive}
    events = await world.run(HOUR_S)
    assert [type(event) for event in events] == [BecameReady, ProbeFailed, ProbePassed]
    assert not world.times("/slots", since_s=700)
