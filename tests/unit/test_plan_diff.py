"""What changes between two sets of specs."""

from dataclasses import replace

import pytest

from infer_dev.plan.diff import Changes, diff
from infer_dev.plan.model import Command, Endpoint, Policy, Spec


def spec(name: str) -> Spec:
    return Spec(
        name=name,
        source="/x.toml",
        command=Command(
            argv=("/b/llama-server", "--port", "1"), env={"A": "1"}, cwd="/", log_file=f"/tmp/{name}.log"
        ),
        endpoint=Endpoint(bind_host="127.0.0.1", dial_host="127.0.0.1", port=1),
    )


def named(*specs: Spec) -> dict[str, Spec]:
    return {one.name: one for one in specs}


A, B, C = spec("a"), spec("b"), spec("c")


def test_equal_plans_change_nothing():
    assert diff(named(A, B), named(spec("a"), spec("b"))) == Changes(unchanged=("a", "b"))
    assert diff({}, {}) == Changes()


def test_new_and_gone_keep_the_order_of_their_plans():
    assert diff(named(C, A), named(B, A, spec("d"))) == Changes(new=("b", "d"), gone=("c",), unchanged=("a",))
    assert diff({}, named(B, A)) == Changes(new=("b", "a"))
    assert diff(named(B, A), {}) == Changes(gone=("b", "a"))


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": ("/b/llama-server", "--port", "2")},
        {"argv": ("/other/llama-server", "--port", "1")},
        {"argv": ("/b/llama-server", "1", "--port")},
        {"env": {"A": "2"}},
        {"env": {}},
        {"env": {"A": "1", "B": ""}},
        {"cwd": "/srv"},
        {"log_file": "/tmp/other.log"},
    ],
)
def test_other_command_needs_another_process(changes):
    after = replace(A, command=replace(A.command, **changes))
    assert diff(named(A, B), named(after, B)) == Changes(changed=("a",), unchanged=("b",))


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": Policy(max_restarts=9)},
        {"background": False},
        {"autostart": False},
        {"enabled": False},
        {"group": "g"},
        {"source": "/y.toml"},
    ],
)
def test_other_care_keeps_the_process(changes):
    assert diff(named(A, B), named(replace(A, **changes), B)) == Changes(updated=("a",), unchanged=("b",))


def test_other_order_changes_nothing():
    assert diff(named(A, B), named(B, A)) == Changes(unchanged=("b", "a"))


def test_other_command_and_other_care_is_told_once():
    after = replace(A, background=False, command=replace(A.command, cwd="/srv"))
    assert diff(named(A), named(after)) == Changes(changed=("a",))
