"""From a file to specs: environment, log, folder, policy, places."""

from pathlib import Path

import pytest

from infer_dev.config.load import load
from infer_dev.config.schema import ControlTable
from infer_dev.errors import ConfigError
from infer_dev.plan.build import build_plan, instance_env
from infer_dev.plan.model import Endpoint, Plan, Policy, Spec, Topic
from infer_dev.plan.serial import plan_from_json, plan_to_json

BINARY = "/opt/llama/bin/llama-server"


def plan_of(tmp_path: Path, text: str, overrides: str | None = None, environ: dict[str, str] | None = None) -> Plan:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return build_plan(load(str(path), overrides), BINARY, environ or {})


def spec_of(tmp_path: Path, text: str) -> Spec:
    (spec,) = plan_of(tmp_path, text).specs
    return spec


def test_contract_example_becomes_a_plan(tmp_path):
    text = """
[instance.control]
log_dir = "/tmp"
background = true
[instance.server]
host = "0.0.0.0"
metrics = true
extra_args = ["--jinja"]
[instance.glm.control]
gpu_ids = "0,1"
log_file = "/tmp/glm.log"
[instance.glm.server]
model = "/llm-models/GLM/GLM-Q2_K-00001-of-00003.gguf"
port = 8080
alias = "glm4"
host = "127.0.0.1"
extra_args = ["-ngl", "99"]
"""
    plan = plan_of(tmp_path, text, environ={"LD_LIBRARY_PATH": "/cuda/lib"})
    assert (plan.source, plan.enabled, plan.binary) == (f"{tmp_path}/x.toml", True, BINARY)
    assert plan.place("glm", Topic.INSTANCE) == f"{tmp_path}/x.toml:9: instance.glm"
    (glm,) = plan.specs
    assert " ".join(glm.command.argv) == (
        f"{BINARY} --jinja -ngl 99 --host 127.0.0.1 --metrics"
        " --model /llm-models/GLM/GLM-Q2_K-00001-of-00003.gguf --port 8080 --alias glm4"
    )
    assert glm.command.env == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "LD_LIBRARY_PATH": "/opt/llama/bin:/cuda/lib",
    }
    assert (glm.command.cwd, glm.command.log_file) == (str(tmp_path), "/tmp/glm.log")
    assert glm.endpoint == Endpoint(bind_host="127.0.0.1", dial_host="127.0.0.1", port=8080)
    assert (glm.alias, glm.model) == ("glm4", "/llm-models/GLM/GLM-Q2_K-00001-of-00003.gguf")
    assert (glm.name, glm.source, glm.gpu_ids, glm.group) == ("glm", plan.source, "0,1", None)
    assert glm.policy == Policy()
    assert glm.background
    assert glm.starts_itself


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ({}, {}),
        ({"gpu_ids": "all"}, {}),
        ({"gpu_ids": "none"}, {"CUDA_VISIBLE_DEVICES": ""}),
        ({"gpu_ids": "0,1"}, {"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ({"gpu_ids": [2]}, {"CUDA_VISIBLE_DEVICES": "2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ({"gpu_ids": ["GPU-ab"]}, {"CUDA_VISIBLE_DEVICES": "GPU-ab", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ({"env": {"A": "1"}}, {"A": "1"}),
        ({"env": {"CUDA_VISIBLE_DEVICES": "3"}}, {"CUDA_VISIBLE_DEVICES": "3"}),
        ({"gpu_ids": "all", "env": {"CUDA_VISIBLE_DEVICES": "3"}}, {"CUDA_VISIBLE_DEVICES": "3"}),
        ({"gpu_ids": "none", "env": {"CUDA_VISIBLE_DEVICES": "3"}}, {"CUDA_VISIBLE_DEVICES": ""}),
        (
            {"gpu_ids": "0", "env": {"CUDA_VISIBLE_DEVICES": "3", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}},
            {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"},
        ),
    ],
)
def test_gpu_ids_and_env_make_the_environment(control, expected):
    env = instance_env(ControlTable.model_validate(control), BINARY, {"HOME": "/h"})
    assert env == expected | {"LD_LIBRARY_PATH": "/opt/llama/bin"}


def test_device_order_of_the_container_is_kept():
    env = instance_env(ControlTable(gpu_ids="0"), BINARY, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"})
    assert env["CUDA_VISIBLE_DEVICES"] == "0"
    assert env.get("CUDA_DEVICE_ORDER", "FASTEST_FIRST") == "FASTEST_FIRST"


@pytest.mark.parametrize(
    ("own", "inherited", "expected"),
    [
        ({}, "", "/opt/llama/bin"),
        ({}, "/a:/b", "/opt/llama/bin:/a:/b"),
        ({"LD_LIBRARY_PATH": "/own"}, "/a", "/opt/llama/bin:/own"),
        ({"LD_LIBRARY_PATH": ""}, "/a", "/opt/llama/bin"),
    ],
)
def test_folder_of_the_binary_stands_first_in_the_library_path(own, inherited, expected):
    env = instance_env(ControlTable.model_validate({"env": own}), BINARY, {"LD_LIBRARY_PATH": inherited})
    assert env["LD_LIBRARY_PATH"] == expected


def test_library_path_without_a_folder_does_not_name_the_working_directory():
    """An empty part of LD_LIBRARY_PATH is the working directory (ld.so(8))."""
    env = instance_env(ControlTable(), "llama-server", {"LD_LIBRARY_PATH": "/a"})
    assert "" not in env.get("LD_LIBRARY_PATH", "/a").split(":")


@pytest.mark.parametrize(
    ("default", "own", "log"),
    [
        ("", "", "/tmp/llama-server-a.log"),
        ('log_dir = "/d"', "", "/d/llama-server-a.log"),
        ('log_dir = "/d/"', 'log_dir = "/o/"', "/o/llama-server-a.log"),
        ('log_dir = "/d"', 'log_file = "/o/x.log"', "/o/x.log"),
        ("", 'log_dir = "/o"\nlog_file = "/o/x.log"', "/o/x.log"),
        ('log_file = "/d/x.log"', 'log_dir = "/o"', "/d/x.log"),
        ('log_file = "/d/x.log"', 'log_file = "/o/y.log"', "/o/y.log"),
        ("", 'log_dir = "logs"', "{folder}/logs/llama-server-a.log"),
        ("", 'log_file = "../x.log"', "{parent}/x.log"),
        ("", 'log_file = "a b/ü.log"', "{folder}/a b/ü.log"),
    ],
)
def test_log_file_wins_over_log_dir(tmp_path, default, own, log):
    spec = spec_of(tmp_path, f"[instance.control]\n{default}\n[instance.a.control]\n{own}\n")
    assert spec.command.log_file == log.format(folder=tmp_path, parent=tmp_path.parent)


@pytest.mark.parametrize(
    ("written", "cwd"), [(None, "{folder}"), ("sub", "{folder}/sub"), ("..", "{parent}"), ("/srv", "/srv")]
)
def test_cwd_counts_from_the_folder_of_the_file(tmp_path, written, cwd):
    spec = spec_of(tmp_path, "[instance.a.control]\n" + (f'cwd = "{written}"\n' if written else ""))
    assert spec.command.cwd == cwd.format(folder=tmp_path, parent=tmp_path.parent)


def test_policy_is_taken_from_control(tmp_path):
    text = """
[instance.control]
restart = "always"
backoff_s = 0.5
[instance.a.control]
max_restarts = 2
restart_window_s = 30
backoff_max_s = 4
ready_timeout_s = 10
stop_timeout_s = 3
"""
    assert spec_of(tmp_path, text).policy == Policy(
        restart="always",
        max_restarts=2,
        restart_window_s=30.0,
        backoff_s=0.5,
        backoff_max_s=4.0,
        ready_timeout_s=10.0,
        stop_timeout_s=3.0,
    )


@pytest.mark.parametrize(
    ("written", "attribute", "value", "starts"),
    [
        ("enabled = false", "enabled", False, False),
        ("autostart = false", "autostart", False, False),
        ("background = false", "background", False, True),
        ('group = "g"', "group", "g", True),
    ],
)
def test_control_switch_reaches_the_spec(tmp_path, written, attribute, value, starts):
    spec = spec_of(tmp_path, f"[instance.a.control]\n{written}\n")
    assert getattr(spec, attribute) == value
    assert spec.starts_itself is starts


def test_master_switch_reaches_the_plan(tmp_path):
    assert plan_of(tmp_path, "[master]\nenable = false\n[instance.a.server]\n").enabled is False


def test_specs_keep_the_order_of_the_file_disabled_ones_too(tmp_path):
    text = "[instance.z.control]\nenabled = false\n[instance.a.server]\n[instance.m.server]\n"
    assert [spec.name for spec in plan_of(tmp_path, text).specs] == ["z", "a", "m"]


def test_port_not_given_is_said_to_the_server(tmp_path):
    spec = spec_of(tmp_path, "[instance.a.server]\n")
    assert spec.endpoint.port == 8080
    assert spec.command.env["LLAMA_ARG_PORT"] == "8080"


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("[instance.a.server]\nport = 81\n", 81),
        ('[instance.a.server]\nport = "82"\n', 82),
        ('[instance.a.server]\nextra_args = ["--port", "83"]\n', 83),
        ('[instance.a.server]\nextra_args = ["--port", "83"]\nport = 84\n', 84),
        ('[instance.a.control]\nenv = { LLAMA_ARG_PORT = "85" }\n', 85),
    ],
)
def test_port_is_found_wherever_it_is_given(tmp_path, text, port):
    spec = spec_of(tmp_path, text)
    assert spec.endpoint.port == port
    assert spec.command.env.get("LLAMA_ARG_PORT") in (None, str(port))


def test_unix_socket_needs_no_port(tmp_path):
    spec = spec_of(tmp_path, '[instance.a.server]\nhost = "/run/a.sock"\n')
    assert spec.endpoint.is_unix
    assert "LLAMA_ARG_PORT" not in spec.command.env


@pytest.mark.parametrize("written", ["0", "70000", "-1", '"http"', "8080.5"])
def test_port_that_is_none_is_told_with_its_place(tmp_path, written):
    with pytest.raises(ConfigError, match="expected a port from 1 to 65535") as caught:
        plan_of(tmp_path, f"[instance.a.server]\n\nport = {written}\n")
    assert caught.value.message.startswith(f"cannot use {tmp_path}/x.toml:3: instance.a.server.port: ")


def test_port_that_is_none_is_told_at_the_defaults_it_comes_from(tmp_path):
    with pytest.raises(ConfigError, match="expected a port from 1 to 65535") as caught:
        plan_of(tmp_path, "[instance.server]\nport = 70000\n[instance.a.server]\nalias = 'x'\n")
    assert caught.value.message.startswith(f"cannot use {tmp_path}/x.toml:2: instance.server.port: ")


def test_port_from_overrides_is_told_at_the_variable(tmp_path):
    with pytest.raises(ConfigError, match="expected a port") as caught:
        plan_of(tmp_path, "[instance.a.server]\nport = 1\n", '{"instance": {"a": {"server": {"port": 0}}}}')
    assert caught.value.message.startswith("cannot use AUTO_INFER_LLAMA_CPP_OVERRIDES: instance.a.server.port: ")


def test_overrides_show_in_the_places_of_a_plan(tmp_path):
    plan = plan_of(tmp_path, "", '{"instance": {"a": {"server": {}}}}')
    assert plan.place("a", Topic.INSTANCE) == "AUTO_INFER_LLAMA_CPP_OVERRIDES: instance.a"


def test_value_of_100_kb_reaches_the_command(tmp_path):
    value = "ä 🦙'\"$" * 12_500
    path = tmp_path / "x.toml"
    path.write_text(f"[instance.a.server]\nmodel = 'm'\nx = '''{value}'''\n")
    (spec,) = build_plan(load(str(path)), BINARY, {}).specs
    assert spec.command.argv == (BINARY, "--model", "m", "--x", value)


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.pop("source"),
        lambda made: made.pop("specs"),
        lambda made: made.update(unknown=1),
        lambda made: made.update(specs=None),
        lambda made: made["specs"][0].pop("command"),
        lambda made: made["specs"][0]["command"].pop("argv"),
        lambda made: made["specs"][0]["command"].update(argv=None),
        lambda made: made["specs"][0]["endpoint"].update(unknown=1),
        lambda made: made["specs"][0].update(policy=None),
    ],
)
def test_plan_of_another_version_is_refused(tmp_path, change):
    made = plan_to_json(plan_of(tmp_path, "[instance.a.server]\n"))
    change(made)
    with pytest.raises(ValueError, match="not a plan of this version"):
        plan_from_json(made)
