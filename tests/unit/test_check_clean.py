"""What was found without fault is not looked at again, until something is another."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from infer_dev.check.clean import is_known, key_of, remember
from infer_dev.plan.model import Command, Endpoint, Plan, Spec


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    server = tmp_path / "llama-server"
    server.write_text("#!/bin/sh\n")
    specs = tuple(
        Spec(
            name=name,
            source="/rack.toml",
            command=Command(argv=(str(server), "--port", str(port)), cwd="/", log_file=f"/tmp/{name}.log"),
            endpoint=Endpoint(bind_host="127.0.0.1", dial_host="127.0.0.1", port=port),
        )
        for name, port in (("a", 1000), ("b", 1001))
    )
    return Plan(source="/rack.toml", enabled=True, binary=str(server), specs=specs)


def test_key_is_another_for_anything_that_matters(plan: Plan) -> None:
    key = key_of(plan, ["a", "b"])
    assert len(key) == 64
    assert key == key_of(plan, ["a", "b"])
    other = replace(plan.specs[0], command=replace(plan.specs[0].command, cwd="/tmp"))
    assert len({key, key_of(plan, ["a"]), key_of(replace(plan, specs=(other, plan.specs[1])), ["a", "b"])}) == 3
    Path(plan.binary).write_text("#!/bin/sh\nexit\n")
    assert key_of(plan, ["a", "b"]) != key
    Path(plan.binary).unlink()
    assert key_of(plan, ["a", "b"]) == ""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"x" * 100)
    return path


def test_remembered_is_known(tmp_path: Path, model: Path) -> None:
    folder = str(tmp_path / "cache")
    assert not is_known(folder, "k")
    remember(folder, "k", [str(model)], 1000)
    assert is_known(folder, "k")
    assert not is_known(folder, "j")
    assert not is_known(folder, "")


@pytest.mark.parametrize("change", ["truncate", "touch", "unlink", "chmod", "replace"])
def test_other_model_is_not_known(tmp_path: Path, model: Path, change: str) -> None:
    folder = str(tmp_path / "cache")
    remember(folder, "k", [str(model)], 1000)
    match change:
        case "truncate":
            os.truncate(model, 99)
        case "touch":
            os.utime(model, (1, 1))
        case "unlink":
            model.unlink()
        case "chmod":
            model.chmod(0)
        case _:
            (tmp_path / "n").write_bytes(b"y" * 100)
            (tmp_path / "n").replace(model)
    assert not is_known(folder, "k")


def test_memory_that_no_longer_suffices_is_looked_at_again(tmp_path: Path, model: Path) -> None:
    folder = str(tmp_path / "cache")
    remember(folder, "k", [str(model)], 1 << 60)
    assert not is_known(folder, "k")


@pytest.mark.parametrize(
    "damage", ["[]", "{}", '{"files": 3, "memory_bytes": 1}', '{"files": {}, "memory_bytes": "x"}']
)
def test_damaged_memory_is_done_without(tmp_path: Path, model: Path, damage: str) -> None:
    folder = tmp_path / "cache"
    remember(str(folder), "k", [str(model)], 1000)
    next(folder.iterdir()).write_text(damage)
    assert not is_known(str(folder), "k")
