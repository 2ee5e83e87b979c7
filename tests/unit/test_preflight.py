"""From a file to a plan that may start: the binary, conflicts, logs, ports."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from infer_dev.check.preflight import refuse_conflicts, refuse_obstacles
from infer_dev.check.resolve import resolve, resolve_for_show, source_of_caller
from infer_dev.config.load import load
from infer_dev.errors import EXIT_CONFIG, EXIT_UNAVAILABLE, ConfigError, UnavailableError
from infer_dev.llama_cpp import binary
from infer_dev.plan.build import build_plan
from infer_dev.plan.model import Plan, Source


def plan_of(tmp_path: Path, text: str, name: str = "x.toml") -> Plan:
    path = tmp_path / name
    path.write_text(text)
    return build_plan(load(str(path)), "/b/llama-server", {})


def instance(name: str, port: int, control: str = "") -> str:
    return f"[instance.{name}.control]\n{control}\n[instance.{name}.server]\nmodel = '/m'\nport = {port}\n"


def source_of(tmp_path: Path, text: str, **kwargs: str) -> Source:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return Source(**{"path": str(path), "overrides": None, "search_path": ""} | kwargs)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_plan_without_conflicts_passes(tmp_path):
    plan = plan_of(tmp_path, instance("a", 1) + instance("b", 2))
    refuse_conflicts(plan, ())
    refuse_conflicts(plan, plan_of(tmp_path, instance("c", 3), "other.toml").specs)


def test_one_conflict_is_told_with_place_and_hint(tmp_path):
    with pytest.raises(ConfigError) as caught:
        refuse_conflicts(plan_of(tmp_path, instance("a", 1) + instance("b", 1)), ())
    assert caught.value.message == (
        f"cannot start {tmp_path}/x.toml:10: instance.b.server.port: port 1 is also that of instance a"
    )
    assert "control.group" in caught.value.hint
    assert caught.value.exit_status == EXIT_CONFIG


def test_several_conflicts_are_told_with_place_and_hint(tmp_path):
    text = instance("a", 1) + instance("b", 1) + "[instance.c.server]\nport = 3\n"
    with pytest.raises(ConfigError) as caught:
        refuse_conflicts(plan_of(tmp_path, text), ())
    first, model, port = caught.value.message.splitlines()
    assert first == f"cannot start {tmp_path}/x.toml: 2 obstacles:"
    assert model.startswith(f"  {tmp_path}/x.toml:11: instance.c: no model: set server.model")
    assert port.startswith(f"  {tmp_path}/x.toml:10: instance.b.server.port: port 1 ")


def test_conflict_with_another_file_is_refused(tmp_path):
    others = plan_of(tmp_path, instance("a", 1), "other.toml").specs
    with pytest.raises(ConfigError, match=r"the name is taken by an instance of .*other\.toml"):
        refuse_conflicts(plan_of(tmp_path, instance("a", 2)), others)


def test_free_port_and_writable_log_pass(tmp_path, free_port):
    plan = plan_of(tmp_path, instance("a", free_port(), "log_dir = 'new/folder'"))
    refuse_obstacles(plan, {"a"}, ())


def test_port_of_another_program_is_told_with_its_pid(tmp_path, taken):
    with pytest.raises(UnavailableError) as caught:
        refuse_obstacles(plan_of(tmp_path, instance("a", taken)), {"a"}, ())
    assert f"x.toml:5: instance.a.server.port: port {taken} is taken by " in caught.value.message
    assert f"(pid {os.getpid()})" in caught.value.message
    assert caught.value.exit_status == EXIT_UNAVAILABLE
    assert caught.value.hint


def test_port_of_an_instance_that_will_be_stopped_first_passes(tmp_path, taken):
    plan = plan_of(tmp_path, instance("a", taken))
    refuse_obstacles(plan, {"a"}, {plan.specs[0].endpoint})


def test_port_of_an_instance_that_does_not_start_passes(tmp_path, taken):
    refuse_obstacles(plan_of(tmp_path, instance("a", taken)), {"b"}, ())


def test_unix_socket_passes(tmp_path):
    plan = plan_of(tmp_path, "[instance.a.server]\nmodel = '/m'\nhost = 'a.sock'\n")
    refuse_obstacles(plan, {"a"}, ())


@pytest.mark.parametrize("log", ["folder", "file/x.log", "file/sub/x.log", "x" * 300])
def test_log_that_cannot_be_written_is_told(tmp_path, free_port, log):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        refuse_obstacles(plan_of(tmp_path, instance("a", free_port(), f"log_file = '{log}'")), {"a"}, ())
    told, _, reason = caught.value.message.partition(" cannot be written: ")
    assert told == f"cannot start {tmp_path}/x.toml:2: instance.a.control.log_file: the log {tmp_path}/{log}"
    assert reason
    assert "control.log_dir" in caught.value.hint


def test_all_logs_that_cannot_be_written_are_told_at_once(tmp_path, free_port):
    text = instance("a", free_port(), f"log_file = '{tmp_path}'") + instance(
        "b", free_port(), "log_dir = '/dev/null'"
    )
    with pytest.raises(ConfigError, match="2 obstacles"):
        refuse_obstacles(plan_of(tmp_path, text), {"a", "b"}, ())


def test_all_ports_that_are_taken_are_told_at_once(tmp_path, taken):
    text = instance("a", taken) + instance("b", taken)
    with pytest.raises(UnavailableError, match="2 obstacles"):
        refuse_obstacles(plan_of(tmp_path, text), {"a", "b"}, ())


def test_source_takes_what_matters_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environ = {"AUTO_INFER_LLAMA_CPP_OVERRIDES": "{}", "PATH": "/p", "HOME": "/h"}
    assert source_of_caller("x.toml", environ) == Source(
        path=str(tmp_path / "x.toml"), overrides="{}", search_path="/p"
    )
    assert source_of_caller("/x.toml", {}) == Source(path="/x.toml", overrides=None, search_path="")


def test_resolve_finds_the_binary_and_keeps_the_library_path(tmp_path):
    server = tmp_path / "bin/llama-server"
    server.parent.mkdir()
    server.touch(0o755)
    text = "[master]\nllama_cpp_path = 'bin/llama-server'\n[instance.a.server]\nport = 1\n"
    source = source_of(tmp_path, text, overrides='{"instance": {"a": {"server": {"port": 2}}}}')
    environ = {"LD_LIBRARY_PATH": "/l"}
    plan = resolve(source, environ)
    assert plan.binary == str(server)
    assert plan.specs[0].command.argv == (str(server), "--port", "2")
    assert plan.specs[0].command.env == {"LD_LIBRARY_PATH": f"{tmp_path}/bin:/l"}
    assert resolve_for_show(source, environ)[1:] == (plan, "")


def test_resolve_without_a_binary_is_refused_but_can_be_shown(tmp_path):
    source = source_of(tmp_path, "[master]\nllama_cpp_path = '/nowhere/x'\n[instance.a.server]\n")
    with pytest.raises(UnavailableError, match="/nowhere/x: does not exist"):
        resolve(source, {})
    _, plan, missing = resolve_for_show(source, {})
    assert "/nowhere/x: does not exist" in missing
    assert plan.specs[0].command.argv == ("/nowhere/x",)


@pytest.mark.skipif(any(map(os.path.exists, binary.USUAL_PLACES)), reason="a server is installed here")
def test_resolve_shows_the_bare_name_where_no_place_is_given(tmp_path):
    source = source_of(tmp_path, "[master]\nllama_cpp_path = ''\n[instance.a.server]\n")
    with pytest.raises(UnavailableError, match="tried in this order"):
        resolve(source, {})
    _, plan, missing = resolve_for_show(source, {})
    assert all(place in missing for place in binary.USUAL_PLACES)
    assert plan.binary == "llama-server"


def test_resolve_of_a_file_switched_off_needs_no_binary(tmp_path):
    source = source_of(tmp_path, "[master]\nenable = false\nllama_cpp_path = '/nowhere'\n[instance.a.server]\n")
    plan = resolve(source, {})
    assert plan.enabled is False
    assert plan.binary == "llama-server"
