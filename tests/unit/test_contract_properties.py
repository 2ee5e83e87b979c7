"""Whole documents, made at random, read by the program and by the oracle."""

import copy
import dataclasses
import json
import tomllib
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from infer_dev.cli.config import merged_document
from infer_dev.config.load import load
from infer_dev.config.locate import line_of
from infer_dev.config.schema import json_schema
from infer_dev.errors import ConfigError
from infer_dev.plan.argv import redacted
from infer_dev.plan.build import build_plan
from infer_dev.plan.diff import Changes, diff
from infer_dev.plan.model import Plan, Policy
from infer_dev.plan.serial import plan_from_json, plan_to_json
from tests.unit import contract_oracle as oracle

BINARY = "/opt/llama/bin/llama-server"
VALIDATOR = Draft202012Validator(json_schema())
examples = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# What follows these on a command line is read for the endpoint; as values of other keys they would be read too.
READ_FLAGS = ("--port", "--host", "--api-prefix")
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12).filter(
    lambda text: text not in READ_FLAGS
)
filled = texts.filter(bool)
numbers = st.integers(-(2**70), 2**70) | st.floats()
arrays = st.lists(texts | numbers, max_size=3)
values = texts | numbers | st.booleans() | arrays
names = st.sampled_from(["a", "b", "glm-4.7", "0", "A_b", "Control"]) | st.from_regex(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True
).filter(lambda name: name not in oracle.RESERVED)
free_keys = filled.filter(lambda key: not key.startswith("-"))
server_keys = (
    st.sampled_from(["model", "host", "alias", "n_gpu_layers", "n-gpu-layers", "lora", "metrics"]) | free_keys
)
ports = st.integers(1, 65535)
gpu_lists = st.lists(
    st.integers(0, 15) | st.sampled_from(["GPU-8932f937-d72c", "MIG-GPU-8932f937/1/0"]), min_size=1, unique=True
)
gpu_ids = (
    st.sampled_from(["all", "none"])
    | gpu_lists
    | gpu_lists.map(lambda ids: [str(one) for one in ids])
    | st.tuples(gpu_lists, st.sampled_from([",", ", ", " ,"])).map(lambda pair: pair[1].join(map(str, pair[0])))
)
paths = st.sampled_from(["/tmp", "/var/log", "/x y/ü", "/srv/logs"])
env_names = st.sampled_from(["LD_LIBRARY_PATH", "CUDA_DEVICE_ORDER", "HF_TOKEN", "a b", "ä"]) | st.from_regex(
    r"[A-Z][A-Z0-9]{0,5}", fullmatch=True
)


@st.composite
def servers(draw: st.DrawFn) -> oracle.Table:
    table = draw(
        st.dictionaries(server_keys.filter(lambda key: key not in ("port", "extra_args")), values, max_size=5)
    )
    if draw(st.booleans()):
        table["port"] = draw(ports | ports.map(str))
    if draw(st.booleans()):
        table["extra_args"] = draw(st.lists(texts, max_size=3))
    return dict(draw(st.permutations(list(table.items()))))


controls = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "autostart": st.booleans(),
        "background": st.booleans(),
        "gpu_ids": gpu_ids,
        "log_dir": paths,
        "log_file": paths.map(lambda path: f"{path}/x.log"),
        "env": st.dictionaries(env_names, texts, max_size=3),
        "cwd": paths,
        "group": filled,
        "restart": st.sampled_from(["always", "on-failure", "never"]),
        "max_restarts": st.integers(0, 100),
        "restart_window_s": st.integers(1, 1000) | st.floats(0.1, 1000),
        "backoff_s": st.floats(0.001, 1),
        "backoff_max_s": st.integers(1, 1000),
        "ready_timeout_s": st.integers(1, 1000),
        "stop_timeout_s": st.floats(0.1, 100),
    },
)
instances = st.fixed_dictionaries({}, optional={"control": controls, "server": servers()})
documents = st.tuples(
    st.fixed_dictionaries(
        {},
        optional={
            "master": st.fixed_dictionaries(
                {}, optional={"enable": st.booleans(), "llama_cpp_path": st.sampled_from(["", "/x/llama-server"])}
            )
        },
    ),
    st.dictionaries(names, instances, min_size=1, max_size=3),
    st.fixed_dictionaries({}, optional={"control": controls, "server": servers()}),
    st.booleans(),
).map(lambda made: made[0] | {"instance": made[2] | made[1] if made[3] else made[1] | made[2]})


def plan_of(tmp_path: Path, document: oracle.Table, overrides: oracle.Table | None = None) -> Plan:
    path = tmp_path / "x.toml"
    path.write_text(tomli_w.dumps(document), newline="")
    file = load(str(path), None if overrides is None else json.dumps(overrides))
    return build_plan(file, BINARY, {"LD_LIBRARY_PATH": "/inherited", "HOME": "/h"})


def without_places(plan: Plan) -> Plan:
    return dataclasses.replace(plan, places={})


@examples
@given(document=documents)
def test_plan_of_any_document_equals_the_oracle(tmp_path, document):
    plan = plan_of(tmp_path, document)
    assert [spec.name for spec in plan.specs] == oracle.instance_names(document)
    assert plan.enabled is document.get("master", {}).get("enable", True)
    for spec in plan.specs:
        assert list(spec.command.argv) == [BINARY, *oracle.argv(document, spec.name)]
        env = {key: value for key, value in spec.command.env.items() if key != "LLAMA_ARG_PORT"}
        assert env == oracle.env(document, spec.name, "/opt/llama/bin", "/inherited")
        assert spec.command.log_file == oracle.log_file(document, spec.name)
        assert spec.command.cwd == oracle.control(document, spec.name, "cwd", str(tmp_path))
        for key, default in (("enabled", True), ("autostart", True), ("background", True), ("group", None)):
            assert getattr(spec, key) == oracle.control(document, spec.name, key, default)
        for field in dataclasses.fields(Policy):
            assert getattr(spec.policy, field.name) == oracle.control(document, spec.name, field.name, field.default)
        port = dict(oracle.merged_server(document, spec.name)).get("port", 8080)
        assert spec.endpoint.is_unix or spec.endpoint.port == int(port)


@examples
@given(document=documents)
def test_document_shown_merged_gives_the_same_plan(tmp_path, document):
    plan = plan_of(tmp_path, document)
    shown = merged_document(load(str(tmp_path / "x.toml")))
    assert without_places(plan_of(tmp_path, shown)) == without_places(plan)
    again = merged_document(load(str(tmp_path / "x.toml")))
    assert tomli_w.dumps(again) == tomli_w.dumps(shown)


@examples
@given(document=documents, overrides=documents)
def test_overrides_equal_an_edited_file(tmp_path, document, overrides):
    edited = oracle.overlaid(document, overrides)
    with_overrides = plan_of(tmp_path, document, overrides)
    assert without_places(with_overrides) == without_places(plan_of(tmp_path, edited))


@examples
@given(document=documents)
def test_plan_sent_as_json_arrives_the_same(tmp_path, document):
    plan = plan_of(tmp_path, document)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


@examples
@given(document=documents)
def test_same_document_changes_nothing(tmp_path, document):
    one, two = ({spec.name: spec for spec in plan_of(tmp_path, document).specs} for _ in range(2))
    assert diff(one, two) == Changes(unchanged=tuple(one))


@examples
@given(before=documents, after=documents)
def test_every_name_is_in_exactly_one_list_of_the_changes(tmp_path, before, after):
    old, new = ({spec.name: spec for spec in plan_of(tmp_path, one).specs} for one in (before, after))
    changes = diff(old, new)
    told = [*changes.new, *changes.gone, *changes.changed, *changes.updated, *changes.unchanged]
    assert sorted(told) == sorted(old.keys() | new.keys())
    for name in changes.changed:
        assert old[name].command != new[name].command
    for name in (*changes.updated, *changes.unchanged):
        assert old[name].command == new[name].command


SECRET = "s3cr3t-7f1c"
secret_values = st.sampled_from([SECRET, f"{SECRET} $x", f"a,{SECRET}"])


@examples
@given(
    document=documents,
    key=st.sampled_from(["api_key", "api-key", "hf_token", "hf-token"]),
    value=secret_values | st.lists(secret_values, min_size=1, max_size=3),
    extra=st.tuples(st.sampled_from(["--api-key", "--api_key", "--hf-token", "--hf_token", "-hft"]), secret_values),
)
def test_redacted_arguments_never_hold_a_secret(tmp_path, document, key, value, extra):
    document = copy.deepcopy(document)
    for table in (document["instance"], document["instance"][oracle.instance_names(document)[0]]):
        server = table.setdefault("server", {})
        server[key] = value
        server["extra_args"] = [*server.get("extra_args", []), *extra]
    plan = plan_of(tmp_path, document)
    assert any(SECRET in arg for arg in plan.specs[0].command.argv)
    for spec in plan.specs:
        shown = redacted(spec.command.argv)
        assert not any(SECRET in arg for arg in shown)
        assert len(shown) == len(spec.command.argv)


# --- the schema ---


@examples
@given(document=documents)
def test_document_that_loads_is_valid_by_the_schema(tmp_path, document):
    plan_of(tmp_path, document)
    assert [error.message for error in VALIDATOR.iter_errors(tomllib.loads(tomli_w.dumps(document)))] == []


bad_values = {
    ("master",): st.sampled_from([1, True, "x", [], {"enabled": True}, {"enable": 1}, {"llama_cpp_path": []}]),
    ("instance",): st.sampled_from([1, "x", []]),
    ("other",): st.just({}),
    ("instance", "a b"): st.just({}),
    ("instance", "x"): st.sampled_from([1, "x", True, {"port": 1}, {"server": 1}, {"control": "x"}]),
    ("instance", "control", "unknown"): values,
    ("instance", "control", "enabled"): st.integers() | texts | arrays,
    ("instance", "control", "gpu_ids"): st.integers() | st.booleans() | st.lists(st.booleans(), min_size=1),
    ("instance", "control", "log_dir"): st.integers() | st.booleans() | arrays | st.just(""),
    ("instance", "control", "restart"): texts.filter(lambda text: text not in ("always", "on-failure", "never")),
    ("instance", "control", "max_restarts"): texts | st.booleans() | st.integers(max_value=-1) | st.just(0.5),
    ("instance", "control", "backoff_s"): texts | st.booleans() | st.floats(max_value=0),
    ("instance", "server", "extra_args"): texts | numbers | st.booleans() | st.lists(numbers, min_size=1),
    ("instance", "server", "x"): st.sampled_from([{}, {"a": 1}, [True], [[]], [{}]]),
}


@examples
@given(
    document=documents,
    mistake=st.sampled_from(sorted(bad_values)).flatmap(lambda path: bad_values[path].map(lambda bad: (path, bad))),
)
def test_document_with_one_mistake_is_refused_by_load_and_schema(tmp_path, document, mistake):
    path, bad = mistake
    node = document = copy.deepcopy(document)
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = bad
    with pytest.raises(ConfigError) as caught:
        plan_of(tmp_path, document)
    assert "cannot use" in caught.value.message
    assert not VALIDATOR.is_valid(tomllib.loads(tomli_w.dumps(document)))


# --- lines ---

plain_keys = st.sampled_from(["port", "model", "a", "host", "e", "port_2"]) | st.text(
    st.characters(categories=["L", "Nd"], include_characters=" .#[]=_-'"), min_size=1, max_size=6
)
noise = st.sampled_from(["", "# port = 1", "# [instance.a.server]", "  # model a e host", "#"])
line_values = st.sampled_from(
    [
        "1",
        "true",
        '"port"',
        '"# port = 1"',
        "[]",
        '[\n    "port", # port\n    # model = 1\n    "a",\n]',
        "'''\nport = 1\n[instance.a.server]\nmodel = 2\n'''",
        '"""a\n\n[[e]]\n\\"\\"\\"\nhost = """',
        "{ port = 1, a = { e = 2 } }",
    ]
)
tables = st.lists(
    st.tuples(
        st.lists(plain_keys, min_size=1, max_size=3),
        st.lists(st.tuples(plain_keys, line_values, noise), max_size=4, unique_by=lambda entry: entry[0]),
        noise,
    ),
    max_size=4,
)


def quoted(key: str) -> str:
    return tomli_w.dumps({key: 1}).removesuffix(" = 1\n")


def written(made: list) -> tuple[str, dict[tuple[str, ...], int]] | None:
    """A TOML text and the line of each key in it, noted while writing; None where two tables collide."""
    lines: list[str] = []
    truth: dict[tuple[str, ...], int] = {}
    for path, entries, before in made:
        lines.append(before)
        number = len(lines) + 1
        lines.append(f"[{'.'.join(map(quoted, path))}]")
        for depth in range(1, len(path) + 1):
            truth.setdefault(tuple(path[:depth]), number)
        for key, value, behind in entries:
            truth.setdefault((*path, key), len(lines) + 1)
            lines += f"{quoted(key)} = {value}".split("\n")
            lines.append(behind)
    text = "\n".join(lines)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
    return text, truth


@examples
@given(made=tables.map(written).filter(bool))
def test_line_of_every_key_is_the_line_it_was_written_on(made):
    text, truth = made
    assert {path: line_of(text, path) for path in truth} == truth
