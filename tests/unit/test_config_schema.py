"""The JSON Schema that editors use says the same as the program."""

import json
import tomllib
from pathlib import Path

import pytest
import tomli_w
from jsonschema import Draft202012Validator

from infer_dev.check.preflight import refuse_conflicts
from infer_dev.config.load import load
from infer_dev.config.schema import ControlTable, MasterTable, json_schema
from infer_dev.errors import ConfigError
from infer_dev.plan.build import build_plan

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "model-configs").glob("*.toml"))
VALIDATOR = Draft202012Validator(json_schema())


def loads(tmp_path: Path, text: str) -> bool:
    path = tmp_path / "x.toml"
    path.write_text(text)
    try:
        load(str(path))
    except ConfigError:
        return False
    return True


def test_schema_is_valid_json_schema():
    Draft202012Validator.check_schema(json_schema())
    assert json.loads(json.dumps(json_schema())) == json_schema()


def test_schema_describes_every_key_of_ours():
    definitions = json_schema()["$defs"]
    for name, table in (("control", ControlTable), ("master", MasterTable)):
        properties = definitions[name]["properties"]
        assert list(properties) == list(table.model_fields)
        assert all(one.get("description") for one in properties.values())


CONTROL, SERVER = "[instance.a.control]\n", "[instance.a.server]\n"
ACCEPTED = [
    "",
    "[master]\n",
    "[master]\nenable = false\nllama_cpp_path = ''\n",
    "[instance]\n",
    "[instance.a]\n",
    "[instance.control]\n[instance.server]\n",
    '[instance."a.b-c_d".server]\nport = 1\n',
    "[instance.Control.server]\n",
    "[instance.servers.server]\n",
    *(
        CONTROL + line
        for line in (
            "gpu_ids = 'all'",
            "gpu_ids = 'none'",
            "gpu_ids = ''",
            "gpu_ids = []",
            "gpu_ids = ' 1 , 0 '",
            "gpu_ids = '0,1'",
            "gpu_ids = [0, 1]",
            "gpu_ids = ['GPU-ab', 'GPU-cd']",
            "gpu_ids = [0, 'GPU-cd']",
            "enabled = false\nautostart = false\nbackground = false",
            "env = { A = '1' }",
            "env = {}",
            "group = 'g'\ncwd = '/x'\nlog_dir = '/x'\nlog_file = '/x'",
            "restart = 'always'\nmax_restarts = 0",
            "restart_window_s = 1\nbackoff_s = 0.5\nbackoff_max_s = 604800",
            "ready_timeout_s = 1e3\nstop_timeout_s = 1",
        )
    ),
    *(
        table + line
        for table in (SERVER, "[instance.server]\n")
        for line in (
            "model = '/m.gguf'",
            "port = 8080",
            "port = '8080'",
            "x = 1",
            "x = -0.5",
            "x = inf",
            "x = ''",
            "x = true",
            "x = []",
            "x = ['a', 1, 0.5]",
            "'a b' = 1",
            "extra_args = []",
            "extra_args = ['-ngl', '99']",
            # The contract knows no key but extra_args: false switches a default off, an array repeats the flag.
            "model = false",
            "host = false",
            "host = ['127.0.0.1', '::1']",
            "port = false",
            "alias = 4",
            "alias = ['a', 'b']",
        )
    ),
]
REFUSED = [
    "mastr = {}\n",
    "master = 1\n",
    "instance = []\n",
    "[master]\nenabled = true\n",
    "[master]\nenable = 'true'\n",
    "[master]\nenable = 1\n",
    "[master]\nllama_cpp_path = 1\n",
    "[instance]\na = 1\n",
    "[instance]\ncontrol = 1\n",
    "[instance]\nserver = []\n",
    "[instance.a]\nport = 1\n",
    "[instance.a]\ncontrol = 1\n",
    "[instance.a]\nserver = 1\n",
    "[instance.a.servr]\n",
    *(f'[instance."{name}".server]\n' for name in ("", "-a", ".a", "_a", "a b", "a/b", "ä")),
    *(
        table + line
        for table in (CONTROL, "[instance.control]\n")
        for line in (
            "unknown = 1",
            "enabled = 1",
            "autostart = 'yes'",
            "background = []",
            "gpu_ids = 0",
            "gpu_ids = true",
            "gpu_ids = '0;1'",
            "gpu_ids = 'ALL'",
            "gpu_ids = 'none,0'",
            "gpu_ids = [0, 0]",
            "gpu_ids = [0.5]",
            "gpu_ids = [true]",
            "gpu_ids = ['x']",
            "gpu_ids = [-1]",
            "log_dir = 1",
            "log_dir = ''",
            "log_file = ''",
            "cwd = ''",
            "group = ''",
            "env = 'A=1'",
            "env = { A = 1 }",
            "restart = 'sometimes'",
            "max_restarts = -1",
            "max_restarts = 1.5",
            "max_restarts = '1'",
            "max_restarts = true",
            "backoff_s = 0",
            "backoff_s = '1'",
            "backoff_s = true",
            "stop_timeout_s = 1e9",
        )
    ),
    *(
        table + line
        for table in (SERVER, "[instance.server]\n")
        for line in (
            "x = {}",
            "x = [true]",
            "x = [[]]",
            "x = [{}]",
            "extra_args = '-x'",
            "extra_args = [1]",
            "extra_args = true",
            "'' = 1",
            "'-ngl' = 1",
            "'--port' = 1",
        )
    ),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_document_of_the_contract_is_accepted_by_both(tmp_path, text):
    assert loads(tmp_path, text)
    assert [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))] == []


@pytest.mark.parametrize("text", REFUSED)
def test_document_against_the_contract_is_refused_by_both(tmp_path, text):
    assert not loads(tmp_path, text)
    assert not VALIDATOR.is_valid(tomllib.loads(text))


def test_defaults_named_in_the_schema_are_accepted(tmp_path):
    named = {
        key: {
            name: one["default"]
            for name, one in json_schema()["$defs"][key]["properties"].items()
            if one.get("default") is not None
        }
        for key in ("master", "control")
    }
    document = {"master": named["master"], "instance": {"a": {"control": named["control"]}}}
    assert VALIDATOR.is_valid(document)
    assert loads(tmp_path, tomli_w.dumps(document))


def test_schema_file_is_that_of_the_program():
    path = ROOT / "model-configs" / "infer-dev.schema.json"
    assert json.loads(path.read_text()) == json_schema(), f"stale; run: infer-dev config schema > {path}"


def test_examples_are_there():
    assert {path.stem for path in EXAMPLES} >= {
        "demo",
        "glm-4.7-q2k",
        "qwen2.5-14b",
        "two-unequal-gpus",
        "one-model-per-gpu",
        "chat-and-embeddings",
        "cpu-only",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_example_loads_validates_and_has_no_conflict(path):
    file = load(str(path))
    assert file.instances
    assert [error.message for error in VALIDATOR.iter_errors(tomllib.loads(path.read_text()))] == []
    refuse_conflicts(build_plan(file, "/b/llama-server", {}), ())


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_example_names_its_schema(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("#:schema ")
    assert (path.parent / first.removeprefix("#:schema ").strip()).is_file()
