from typing import Any

import pytest

from infer_dev.cli.banner import banner_lines
from infer_dev.errors import TimedOutError


def instance(name: str, state: str = "ready", **more: object) -> dict[str, Any]:
    given = {"name": name, "state": state, "port": 8080, "host": "0.0.0.0", "cause": None, "detail": ""}
    return given | more


def answer(*instances: dict[str, Any]) -> dict[str, Any]:
    return {"daemon": {"pid": 7, "uptime_s": 11000.0, "config": "/rack.toml"}, "instances": list(instances)}


def shown(*instances: dict[str, Any], width: int = 80) -> list[str]:
    return banner_lines(answer(*instances), None, [], width=width)


@pytest.mark.parametrize("width", [1, 8, 20, 40, 80, 200])
@pytest.mark.parametrize("name", ["a", "模型", "a-long-name-of-an-instance"])
def test_lines_fit_whatever_there_is(width: int, name: str) -> None:
    many = [instance(f"{name}{number}") for number in range(256)]
    many += [instance(f"x{number}", "failed", cause="killed", detail="d" * 300) for number in range(3)]
    lines = shown(*many, width=width)
    assert len(lines) == 4
    wide = sum(2 if one in "模型" else 1 for line in lines for one in line)
    assert wide <= 4 * width
    assert all(len(line) <= width for line in lines)


def test_those_that_do_not_fit_are_counted() -> None:
    line = shown(*[instance(f"i{number}") for number in range(9)], instance("s", "starting"), width=80)[1]
    assert line == "i0 ready http://127.0.0.1:8080 · +8 more ready · 1 starting"
    assert shown(instance("i"), width=10)[1] == "1 ready"


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("127.0.0.1", 1, "http://127.0.0.1:1"),
        ("::", 2, "http://[::1]:2"),
        ("10.0.0.1", 3, "http://10.0.0.1:3"),
        ("/run/a.sock", None, "/run/a.sock"),
    ],
)
def test_address_is_one_to_go_to(host: str, port: int | None, address: str) -> None:
    assert shown(instance("i", host=host, port=port))[1] == f"i ready {address}"


def test_nothing_from_outside_steers_the_terminal() -> None:
    one = instance("i", "failed", cause="killed", detail="a\x1b]0;b\x07\nnext: curl")
    lines = shown(one)
    assert len(lines) == 3
    assert lines[1] == "i failed: killed: a\\x1b]0;b\\x07\\x0anext: curl"
    assert shown(instance("a b;c"))[-1].endswith("infer-dev restart NAME")


def test_daemon_that_does_not_answer_is_told() -> None:
    first, last = banner_lines(None, TimedOutError("cannot"), [], width=80)
    assert first.endswith("daemon does not answer")
    assert "daemon --replace" in last


def test_api_that_does_not_answer_is_told_where_nothing_is_worse() -> None:
    told = answer(instance("i"))
    told["daemon"]["api_fault"] = "cannot listen"
    assert banner_lines(told, None, [], width=80)[-2] == "API: cannot listen"
    assert banner_lines(told, None, ["cannot use X"], width=80)[-2] == "boot: cannot use X"


def test_boot_error_is_told_by_its_cause() -> None:
    told = "cannot start the instances: exit status 78\n  infer-dev: cannot parse /a.toml:1:2: x\n    hint: y"
    line = "boot (+1 more): cannot parse /a.toml:1:2: x"
    assert banner_lines(answer(), None, [told, "other"], width=80)[-2] == line
    assert banner_lines(answer(), None, ["cannot use X"], width=80)[-2] == "boot: cannot use X"
