"""`config new`: the file it writes."""

import tomllib
from pathlib import Path

import pytest

from infer_dev.check.resolve import resolve, source_of_caller
from infer_dev.cli.config_new import entries_of, new, text_of
from infer_dev.config.load import load
from infer_dev.errors import ConfigError, UsageError
from infer_dev.llama_cpp.gguf.error import GgufError
from tests.parts import tiny_model


def written(folder: Path, *paths: Path, taken: tuple[int, ...] = ()) -> Path:
    text = text_of(
        list(entries_of([str(path) for path in paths], is_free=lambda port: port not in taken)), host="127.0.0.1"
    )
    file = folder / "new.toml"
    file.write_text(text)
    return file


def test_file_of_two_models_is_of_the_contract_and_names_each_once(tmp_path: Path) -> None:
    one, two = tmp_path / "One Model (v2).gguf", tmp_path / "server.gguf"
    for path in (one, two):
        tiny_model.write(path)
    file = load(str(written(tmp_path, one, two, one, taken=(8080, 8082))))
    servers = {instance.name: instance.server for instance in file.instances}
    assert list(servers) == ["one-model-v2", "model-server", "one-model-v2-2"]
    assert [server["port"] for server in servers.values()] == [8081, 8083, 8084]
    assert servers["one-model-v2"]["model"] == str(one)
    assert servers["one-model-v2"]["ctx_size"] == tiny_model.CONTEXT_TOKENS
    assert {server["host"] for server in servers.values()} == {"127.0.0.1"}


def test_commented_control_table_works_once_its_signs_are_taken_away(tmp_path: Path) -> None:
    model = tmp_path / "a.b.gguf"
    tiny_model.write(model)
    file = written(tmp_path, model)
    lines = file.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if "control]" in line)
    file.write_text("\n".join([*lines[:at], *(line.removeprefix("# ") for line in lines[at:])]))
    assert load(str(file)).instances[0].control.gpu_ids == "0"


def test_awkward_path_and_name_stay_what_they_are(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" \\ folder\u2028'
    folder.mkdir()
    model = folder / "ä\t.gguf"
    tiny_model.write(model)
    document = tomllib.loads(written(tmp_path, model).read_text())
    assert [one["server"]["model"] for one in document["instance"].values() if "server" in one] == [str(model)]


def test_only_projector_beside_a_model_is_taken(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    tiny_model.write(model)
    (tmp_path / "mmproj-F16.gguf").touch()
    assert load(str(written(tmp_path, model))).instances[0].server["mmproj"] == str(tmp_path / "mmproj-F16.gguf")
    (tmp_path / "mmproj-Q8_0.gguf").touch()
    assert "mmproj" not in load(str(written(tmp_path, model))).instances[0].server


def test_shards_are_one_model_named_without_their_number(tmp_path: Path) -> None:
    shards = tiny_model.write_shards(tmp_path / "big.gguf", tensors_per_shard=10)
    file = load(str(written(tmp_path, shards[0])))
    assert [one.name for one in file.instances] == ["big"]
    shards[1].unlink()
    with pytest.raises(ConfigError, match=rf"cannot serve {shards[0]}"):
        written(tmp_path, shards[0])


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GgufError):
        new([str(tmp_path / "missing.gguf")])
    page = tmp_path / "page.gguf"
    page.write_text("<html>")
    with pytest.raises(GgufError):
        new([str(page)])


def test_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    model, output = tmp_path / "m.gguf", tmp_path / "out.toml"
    tiny_model.write(model)
    output.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        new([str(model)], output=str(output))
    assert output.read_text() == "mine"


def test_file_is_a_plan_with_the_options_it_means(tmp_path: Path) -> None:
    model, server = tmp_path / "m.gguf", tmp_path / "llama-server"
    tiny_model.write(model)
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    path = written(tmp_path, model)
    plan = resolve(source_of_caller(str(path), {"PATH": str(tmp_path)}), {})
    assert plan.specs[0].command.argv[1:] == (
        *("--host", "127.0.0.1", "--model", str(model), "--alias", "m", "--port", "8080", "--ctx-size", "2048"),
    )
