"""What has to happen so that instances are as a file describes them; the rest is in the tests of diff and order."""

from dataclasses import replace

import pytest

from infer_dev.plan.diff import Difference, differences
from infer_dev.plan.model import Command, Endpoint, Plan, Policy, Spec
from infer_dev.supervisor.lifecycle import State
from infer_dev.supervisor.order import Seat
from infer_dev.supervisor.reconcile import Intent, intend

S = State


def spec(name: str, *args: str, **more: object) -> Spec:
    one = Spec(
        name=name,
        source="/x.toml",
        command=Command(argv=("/b/s", *args), env={"A": "1"}, cwd="/", log_file=f"/{name}.log"),
        endpoint=Endpoint(bind_host="127.0.0.1", dial_host="127.0.0.1", port=1),
    )
    return replace(one, **more)


def seat(one: Spec, state: State) -> Seat:
    runs = state in (S.STARTING, S.READY, S.DEGRADED, S.STOPPING)
    return Seat(spec=one, state=state, wanted=runs, has_process=runs)


def intent(new: list[Spec], old: list[Seat], others: list[Seat] | None = None, *, resting: bool = True) -> Intent:
    plan = Plan(source="/x.toml", enabled=True, binary="/b/s", specs=tuple(new))
    return intend(plan, {one.spec.name: one for one in old}, others or [], start_resting=resting)


def test_changed_one_that_runs_is_stopped_and_started() -> None:
    found = intent([spec("a", "--x", "2")], [seat(spec("a", "--x", "1"), S.READY)])
    assert (found.ending, found.starting) == (("a",), ("a",))
    assert found.differences == {"a": (Difference("--x", "1", "2"),)}


def test_changed_one_that_rests_is_not_stopped() -> None:
    old = [seat(spec("a", "--x", "1"), S.STOPPED)]
    assert intent([spec("a", "--x", "2")], old).starting == ("a",)
    found = intent([spec("a", "--x", "2")], old, resting=False)
    assert (found.ending, found.starting) == ((), ())


def test_policy_alone_stops_nothing() -> None:
    found = intent([spec("a", policy=Policy(stop_timeout_s=30.0))], [seat(spec("a"), S.READY)])
    assert (found.ending, found.starting, found.changes.updated) == ((), (), ("a",))
    assert found.differences == {"a": (Difference("stop_timeout_s", "15", "30"),)}


def test_gone_and_newly_disabled_are_stopped() -> None:
    old = [
        seat(spec("gone"), S.READY),
        seat(spec("off"), S.READY),
        seat(spec("off-but-by-hand", enabled=False), S.READY),
    ]
    found = intent([spec("off", enabled=False), spec("off-but-by-hand", enabled=False)], old)
    assert (found.ending, found.starting) == (("gone", "off"), ())


def test_new_one_that_does_not_start_itself_is_only_added() -> None:
    found = intent([spec("a", autostart=False)], [])
    assert (found.changes.new, found.starting, found.waiting) == (("a",), (), ())


def test_member_that_somebody_started_keeps_its_group() -> None:
    by_hand = seat(spec("b", group="g", autostart=False), S.READY)
    found = intent(
        [spec("a", group="g"), spec("b", group="g", autostart=False)],
        [seat(spec("a", group="g"), S.STOPPED), by_hand],
    )
    assert (found.starting, found.beaten, found.waiting) == ((), ("a",), ())


def test_member_that_somebody_started_keeps_its_group_though_it_changes() -> None:
    found = intent(
        [spec("a", group="g"), spec("b", "--x", group="g", autostart=False)],
        [seat(spec("a", group="g"), S.STOPPED), seat(spec("b", group="g", autostart=False), S.READY)],
    )
    assert (found.ending, found.starting, found.beaten) == (("b",), ("b",), ("a",))


@pytest.mark.parametrize("new", [[], [spec("b", group="g", enabled=False)]], ids=["gone", "disabled"])
def test_member_that_has_to_leave_makes_room_for_the_one_that_starts_itself(new: list[Spec]) -> None:
    found = intent(
        [spec("a", group="g"), *new],
        [seat(spec("a", group="g"), S.STOPPED), seat(spec("b", group="g", autostart=False), S.READY)],
    )
    assert (found.ending, found.starting, found.beaten) == (("b",), ("a",), ())


def test_two_that_run_and_change_into_one_group_do_not_both_go_on() -> None:
    found = intent(
        [spec("a", "--x", group="g", autostart=False), spec("b", "--x", group="g")],
        [seat(spec("a"), S.READY), seat(spec("b"), S.READY)],
    )
    assert (found.ending, found.starting, found.beaten) == (("a", "b"), ("b",), ("a",))


def test_disabled_one_that_somebody_started_keeps_its_port() -> None:
    old = [seat(spec("a"), S.STOPPED), seat(spec("b", enabled=False), S.READY)]
    found = intent([spec("a"), spec("b", enabled=False)], old)
    assert (found.ending, found.starting, found.beaten) == ((), (), ("a",))
    elsewhere = replace(old[0].spec, endpoint=replace(old[0].spec.endpoint, port=2))
    assert intent([elsewhere, spec("b", enabled=False)], old).starting == ("a",)
    moved = intent([spec("a", "--x"), spec("b", enabled=False)], [seat(elsewhere, S.READY), old[1]])
    assert (moved.starting, moved.beaten) == (("a",), ()), "it would be stopped, and nobody told why"


def test_differences_name_each_argument_once() -> None:
    old = spec("a", "-ngl", "99", "--lora", "a", "--lora", "b", "--metrics")
    new = spec("a", "-ngl", "99", "--lora", "b", "--temp", "-1", "--metrics")
    assert differences(old, new) == (Difference("--lora", "a b", "b"), Difference("--temp", "", "-1"))


def test_differences_of_order_alone_are_told() -> None:
    assert differences(spec("a", "--x", "--y"), spec("a", "--y", "--x")) == (Difference("arguments", "", ""),)


def test_differences_show_no_secret() -> None:
    old, new = spec("a", "--api-key", "s3cret-one"), spec("a", "--api-key", "s3cret-two")
    new = replace(new, command=replace(new.command, env={"A": "1", "HF_TOKEN": "s3cret-three", "B": "2"}))
    found = differences(old, new)
    assert "s3cret" not in str(found)
    assert [one.what for one in found] == ["arguments", "B", "HF_TOKEN"]


def test_differences_of_everything_else_are_told() -> None:
    old = spec("a")
    new = replace(
        old,
        command=replace(old.command, argv=("/c/s",), cwd="/srv", log_file="/l"),
        enabled=False,
        group="g",
        start_after=("b", "c"),
    )
    assert {one.what: (one.old, one.new) for one in differences(old, new)} == {
        "llama-server": ("/b/s", "/c/s"),
        "cwd": ("/", "/srv"),
        "log_file": ("/a.log", "/l"),
        "enabled": ("true", "false"),
        "group": ("", "g"),
        "start_after": ("", "b, c"),
    }
