"""`AUTO_INFER_LLAMA_CPP_OVERRIDES`: JSON over TOML."""

import json
from pathlib import Path

import pytest

from infer_dev.config.load import ConfigFile, load
from infer_dev.config.overrides import parse_overrides
from infer_dev.errors import EXIT_CONFIG, ConfigError

VARIABLE = "AUTO_INFER_LLAMA_CPP_OVERRIDES"
BASE = """
[master]
llama_cpp_path = "/x/llama-server"
[instance.control]
env = { A = "1", B = "2" }
[instance.server]
host = "0.0.0.0"
lora = ["default"]
[instance.a.server]
port = 8080
lora = ["own"]
alias = "a"
"""


def laid_over(tmp_path: Path, overrides: object, text: str = BASE) -> ConfigFile:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return load(str(path), overrides if isinstance(overrides, str) else json.dumps(overrides))


def refused(tmp_path: Path, overrides: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        laid_over(tmp_path, overrides)
    assert caught.value.exit_status == EXIT_CONFIG
    return caught.value


@pytest.mark.parametrize("text", [None, "", "  \n", "{}"])
def test_overrides_that_say_nothing_change_nothing(tmp_path, text):
    assert parse_overrides(text) == {}
    path = tmp_path / "x.toml"
    path.write_text(BASE)
    assert load(str(path), text).instances == load(str(path)).instances


def test_override_of_a_scalar_keeps_its_position(tmp_path):
    file = laid_over(tmp_path, {"instance": {"a": {"server": {"port": 9090, "new": 1}}}})
    assert list(file.instances[0].server.items()) == [
        ("host", "0.0.0.0"),
        ("lora", ["default", "own"]),
        ("port", 9090),
        ("alias", "a"),
        ("new", 1),
    ]


@pytest.mark.parametrize(
    ("overrides", "lora"),
    [
        ({"instance": {"server": {"lora": ["x"]}}}, ["x", "own"]),
        ({"instance": {"a": {"server": {"lora": ["x"]}}}}, ["default", "x"]),
        ({"instance": {"a": {"server": {"lora": []}}}}, ["default"]),
        ({"instance": {"a": {"server": {"lora": "x"}}}}, "x"),
        ({"instance": {"server": {"lora": [], "host": "::"}}}, ["own"]),
    ],
)
def test_override_of_an_array_replaces_it_before_the_defaults_are_joined(tmp_path, overrides, lora):
    assert laid_over(tmp_path, overrides).instances[0].server["lora"] == lora


def test_override_of_a_table_merges_into_it(tmp_path):
    file = laid_over(tmp_path, {"instance": {"control": {"env": {"B": "3", "C": "4"}}}})
    assert file.instances[0].control.env == {"A": "1", "B": "3", "C": "4"}


def test_override_adds_an_instance_after_those_of_the_file(tmp_path):
    file = laid_over(tmp_path, {"instance": {"b": {"server": {"port": 1}}}})
    assert [one.name for one in file.instances] == ["a", "b"]
    assert file.instances[1].server["host"] == "0.0.0.0"


@pytest.mark.parametrize(
    ("overrides", "enable", "path"),
    [
        ({"master": {"enable": False}}, False, "/x/llama-server"),
        ({"master": {"llama_cpp_path": ""}}, True, ""),
    ],
)
def test_override_of_master_replaces_single_keys(tmp_path, overrides, enable, path):
    assert laid_over(tmp_path, overrides).master.model_dump(exclude_none=True) == {
        "enable": enable,
        "llama_cpp_path": path,
    }


@pytest.mark.parametrize(
    "text",
    ["{", "port=1", "{'a': 1}", '{"a": 1,}', "nul", "\ufeff{}", "[" * 100_000, "{}{}", '{"a": ' + "1" * 5000 + "}"],
)
def test_overrides_that_are_not_json_are_an_error(tmp_path, text):
    err = refused(tmp_path, text)
    assert err.message.startswith(f"cannot read {VARIABLE}: not valid JSON: ")
    assert "one object" in err.hint


@pytest.mark.parametrize(
    ("text", "kind"), [("[]", "list"), ("1", "int"), ('"x"', "str"), ("true", "bool"), ("null", "NoneType")]
)
def test_overrides_that_are_no_object_are_an_error(tmp_path, text, kind):
    err = refused(tmp_path, text)
    assert err.message == f"cannot read {VARIABLE}: expected a JSON object, got {kind}"
    assert err.hint


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        ({"master": None}, "master"),
        ({"instance": {"a": {"server": {"port": None}}}}, "instance.a.server.port"),
        ({"instance": {"server": {"lora": ["x", None]}}}, "instance.server.lora.1"),
        ({"a": 1, "b": [{"c": None}]}, "b.0.c"),
    ],
)
def test_null_in_overrides_is_an_error_with_its_place(tmp_path, overrides, where):
    err = refused(tmp_path, overrides)
    assert err.message == f"cannot read {VARIABLE}: {where}: null is not a TOML value"
    assert err.hint


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ({"mastr": {}}, "mastr: unknown key"),
        ({"master": {"enable": 0}}, "master.enable: expected true or false, got the number 0"),
        ({"instance": 5}, "instance: expected a table, got the number 5"),
        ({"instance": {"a": []}}, "instance.a: expected a table, got an array"),
        ({"instance": {"a b": {}}}, "instance.\"a b\": 'a b' cannot be an instance's name"),
        ({"instance": {"a": {"server": {"port": {}}}}}, "instance.a.server.port: expected a string"),
        ({"instance": {"a": {"server": {"extra_args": 0}}}}, "instance.a.server.extra_args: expected an array"),
        ({"instance": {"control": {"gpu_id": 0}}}, "instance.control.gpu_id: unknown key"),
        ({"instance": {"control": {"enabled": 0}}}, "instance.control.enabled: expected true or false"),
    ],
)
def test_mistake_in_overrides_names_the_variable(tmp_path, overrides, place):
    assert refused(tmp_path, overrides).message.startswith(f"cannot use {VARIABLE}: {place}")


def test_mistake_in_the_file_names_the_file_beside_overrides(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("[instance.a.control]\nenabled = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(str(path), '{"instance": {"a": {"control": {"background": true}}}}')
    assert caught.value.message.startswith(f"cannot use {path}:2: instance.a.control.enabled: ")


def test_mistake_of_the_file_is_mended_by_overrides(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("[instance.a.control]\nenabled = 1\n")
    assert load(str(path), '{"instance": {"a": {"control": {"enabled": true}}}}').instances[0].control.enabled


@pytest.mark.parametrize(
    "server", ['{"x": "\\ud800"}', '{"\\udfff": 1}', '{"x": ["\\ud83d"]}', '{"extra_args": ["\\udcff"]}']
)
def test_lone_surrogate_is_refused(tmp_path, server):
    """JSON can say half a character; no process argument can (UTF-8 has no form for it)."""
    assert VARIABLE in refused(tmp_path, f'{{"instance": {{"a": {{"server": {server}}}}}}}').message


def test_deeply_nested_overrides_are_an_error(tmp_path):
    refused(tmp_path, '{"instance": ' * 2000 + "1" + "}" * 2000)
