"""Who waits for whom."""

from dataclasses import replace

import pytest

from infer_dev.plan.model import Command, Endpoint, Spec
from infer_dev.supervisor.lifecycle import State
from infer_dev.supervisor.order import Gate, Seat, blockers

S = State


def spec(name: str, *, gpus: str | None = "0", fit: str = "on", after: tuple[str, ...] = ()) -> Spec:
    return Spec(
        name=name,
        source="/x.toml",
        command=Command(argv=("s", "--fit", fit), cwd="/", log_file=f"/{name}.log"),
        endpoint=Endpoint(bind_host="127.0.0.1", dial_host="127.0.0.1", port=1),
        gpu_ids=gpus,
        start_after=after,
    )


def seat(one: Spec, state: State, *, wanted: bool = True, has_process: bool | None = None) -> Seat:
    runs = state in (S.STARTING, S.READY, S.DEGRADED, S.STOPPING) if has_process is None else has_process
    return Seat(spec=one, state=state, wanted=wanted, has_process=runs)


def waits(one: Spec, *seats: Seat, going: tuple[str, ...] = (), gpus: bool = False) -> tuple[str, ...]:
    return blockers(one, [seat(one, S.STARTING, has_process=False), *seats], going=frozenset(going), gpus=gpus)


@pytest.mark.parametrize(
    ("mine", "others", "gpus", "shared"),
    [
        ("0", "0", False, True),
        ("0,1", "1,2", False, True),
        ("0", "1", False, False),
        ("none", "0", True, False),
        ("0", "none", True, False),
        (None, "0", True, True),
        ("all", None, True, True),
        (None, None, False, False),  # no GPU in this host
        (None, "0", False, False),
        ("GPU-1a", "GPU-1a", False, True),
        ("GPU-1a", "GPU-2b", False, False),
        ("GPU-1a", "0", False, True),  # may be the same one
    ],
)
def test_one_loads_after_the_other_where_both_fit_themselves_on_a_shared_gpu(
    mine: str | None, others: str | None, gpus: bool, shared: bool
) -> None:
    found = waits(spec("b", gpus=mine), seat(spec("a", gpus=others), S.STARTING), gpus=gpus)
    assert found == (("a",) if shared else ())


@pytest.mark.parametrize(("mine", "others"), [("off", "on"), ("on", "off"), ("off", "off")])
def test_instances_of_a_given_size_load_side_by_side(mine: str, others: str) -> None:
    assert waits(spec("b", fit=mine), seat(spec("a", fit=others), S.STARTING)) == ()


@pytest.mark.parametrize("state", sorted(set(S) - {S.STARTING, S.STOPPING}))
def test_what_does_not_load_is_not_waited_for(state: State) -> None:
    assert waits(spec("b"), seat(spec("a"), state)) == ()


def test_one_that_waits_itself_is_not_waited_for_until_it_was_let_go() -> None:
    held = seat(spec("a"), S.STARTING, has_process=False)
    assert waits(spec("b"), held) == ()
    assert waits(spec("b"), held, going=("a",)) == ("a",)


@pytest.mark.parametrize("fit", ["on", "off"])
def test_nothing_is_put_on_a_gpu_that_another_one_is_leaving(fit: str) -> None:
    assert waits(spec("b", fit=fit), seat(spec("a"), S.STOPPING)) == ("a",)
    assert waits(spec("b", fit=fit, gpus="1"), seat(spec("a"), S.STOPPING)) == ()


@pytest.mark.parametrize(
    ("state", "wanted", "waited_for"),
    [
        (S.STARTING, True, True),
        (S.BACKOFF, True, True),
        (S.STOPPING, True, True),
        (S.STOPPED, True, True),  # about to be started
        (S.STOPPING, False, False),
        (S.STOPPED, False, False),
        (S.DISABLED, False, False),
        (S.FAILED, False, False),
        (S.READY, True, False),
        (S.DEGRADED, True, False),
    ],
)
def test_start_after_waits_for_what_is_on_its_way(state: State, wanted: bool, waited_for: bool) -> None:
    first = spec("a", gpus="none")
    found = waits(spec("b", gpus="none", after=("a",)), seat(first, state, wanted=wanted))
    assert found == (("a",) if waited_for else ())


def test_gate_lets_one_after_the_other_go_in_the_order_in_which_they_asked() -> None:
    a, b, c = spec("a"), spec("b"), spec("c")
    seats = {one.name: seat(one, S.STARTING, has_process=False) for one in (a, b, c)}
    gate, gone = Gate(lambda: False), list[str]()
    gate.watch(lambda: list(seats.values()))
    assert gate.ask(a, lambda: gone.append("a")) == ()
    seats["a"] = replace(seats["a"], has_process=True)
    assert gate.ask(b, lambda: gone.append("b")) == ("a",)
    assert gate.ask(c, lambda: gone.append("c")) == ("a",)
    assert gate.waits_for("c") == ("a",)
    gate.look()
    assert gone == []
    seats["a"] = replace(seats["a"], state=S.READY)
    gate.look()
    gate.look()
    assert gone == ["b"]  # c has to wait for b now, which has no process yet
    assert gate.waits_for("c") == ("b",)
    seats["b"] = replace(seats["b"], has_process=True)
    gate.leave("b")
    gate.look()
    assert gone == ["b"]
    seats["b"] = replace(seats["b"], state=S.FAILED, has_process=False)
    gate.look()
    assert gone == ["b", "c"]


def test_gate_forgets_who_wants_no_more() -> None:
    a, b = spec("a"), spec("b")
    seats = [seat(a, S.STARTING), seat(b, S.STARTING, has_process=False)]
    gate, gone = Gate(lambda: False), list[str]()
    gate.watch(lambda: seats)
    assert gate.ask(b, lambda: gone.append("b")) == ("a",)
    gate.leave("b")
    seats[0] = replace(seats[0], state=S.READY)
    gate.look()
    assert gone == []
