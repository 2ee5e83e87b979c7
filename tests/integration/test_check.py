"""`infer-dev check` as users call it, and what up, reload and boot make of it; with the real llama-server."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, STAND_IN, Cli, Parts, chat, eventually
from tests.integration.test_adoption import kill_daemon
from tests.integration.test_boot import Boots, boots  # noqa: F401 - a fixture

pytestmark = pytest.mark.real


@pytest.fixture
def rack(tmp_path: Path, parts: Parts, free_port: Callable[[], int]) -> Path:
    """A file with two instances of the small model and nothing wrong."""
    path = tmp_path / "rack.toml"
    path.write_text(
        f"""
[master]
llama_cpp_path = "{parts.server}"
[instance.control]
log_dir = "{tmp_path}"
[instance.server]
host = "127.0.0.1"
model = "{parts.model}"
[instance.alpha.server]
port = {free_port()}
ctx_size = 1024
[instance.beta.server]
port = {free_port()}
"""
    )
    return path


def spoil(rack: Path, right: str, wrong: str) -> int:
    """Write a mistake into the file; returns its line."""
    text = rack.read_text()
    assert text.count(right) == 1
    rack.write_text(text.replace(right, wrong))
    return text[: text.index(right)].count("\n") + 1


def test_right_file_exits_0_and_shows_what_it_needs(cli: Cli, rack: Path) -> None:
    checked = cli("check", rack)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert re.search(r"^alpha +host +\S+ MiB", checked.stdout, re.MULTILINE)
    assert checked.stdout.splitlines()[-1].startswith(f"{rack}: nothing found (held against llama-server ")
    assert not cli.runtime.exists()


def test_error_exits_78_with_a_line_that_names_place_and_fix(cli: Cli, rack: Path) -> None:
    line = spoil(rack, "ctx_size", "ctx_sise")
    checked = cli("check", rack)
    assert checked.returncode == 78
    first = checked.stdout.splitlines()[0]
    assert first.startswith(f"{rack}:{line}: error: instance.alpha.server.ctx_sise: ")
    assert "did you mean ctx_size?" in first


def test_warning_exits_0_and_78_if_strict(cli: Cli, rack: Path) -> None:
    spoil(rack, "ctx_size = 1024", "ctx_size = 65536")
    assert [cli("check", rack).returncode, cli("check", "--strict", rack).returncode] == [0, 78]
    assert ": warning: instance.alpha.server.ctx_size: " in cli("check", rack).stdout


def test_json_has_the_findings_in_parts_and_the_memory_in_bytes(cli: Cli, rack: Path) -> None:
    line = spoil(rack, "ctx_size", "ctx_sise")
    told = json.loads(cli("check", "--json", rack).stdout)
    assert (told["errors"], told["warnings"]) == (1, 0)
    finding = next(one for one in told["findings"] if one["level"] == "error")
    assert (finding["instance"], finding["line"], finding["file"]) == ("alpha", line, str(rack))
    assert (finding["key"], finding["code"]) == ("instance.alpha.server.ctx_sise", "unknown-option")
    assert set(finding) == {"level", "code", "instance", "file", "line", "key", "message", "hint"}
    assert {one["name"] for one in told["memory"]["instances"]} == {"alpha", "beta"}
    assert all(part["total_bytes"] > 1 << 20 for one in told["memory"]["instances"] for part in one["devices"])


def test_nothing_is_an_error_where_nothing_would_be_started(cli: Cli, rack: Path, parts: Parts) -> None:
    spoil(rack, f'"{parts.server}"', '"/none"\nenable = false')
    spoil(rack, "ctx_size", "ctx_sise")
    told = json.loads(cli("check", "--json", rack).stdout)
    assert {one["level"] for one in told["findings"]} == {"note"}
    assert cli("up", rack).returncode == 0


def test_file_that_is_not_of_the_contract_is_told_by_the_same_means(cli: Cli, rack: Path) -> None:
    line = spoil(rack, 'log_dir = "', 'restart = "sometimes"\nlogdir = "')
    told = json.loads(cli("check", "--json", rack).stdout)
    assert {one["line"] for one in told["findings"]} == {line, line + 1}
    assert {one["code"] for one in told["findings"]} == {"config"}
    assert cli("check", rack).returncode == 78
    spoil(rack, 'restart = "sometimes"\nlogdir', "log_dir")
    line = spoil(rack, "ctx_size = 1024", "")
    spoil(rack, "[instance.beta.server]\nport = ", "[instance.beta.server]\nport = 1")
    (port,) = json.loads(cli("check", "--json", rack).stdout)["findings"]
    assert (port["instance"], port["line"], port["key"]) == ("beta", line + 2, "instance.beta.server.port")
    missing = cli("check", rack.parent / "missing.toml")
    assert (missing.returncode, missing.stdout) == (78, "")
    assert "no such file" in missing.stderr


def test_what_comes_from_a_default_is_told_once(cli: Cli, rack: Path) -> None:
    spoil(rack, 'host = "127.0.0.1"', 'host = "127.0.0.1"\nmetrcs = true')
    lines = [line for line in cli("check", rack).stdout.splitlines() if "--metrcs" in line]
    assert len(lines) == 1
    assert "[alpha, beta]" in lines[0]


def test_port_of_an_instance_that_runs_is_no_finding_but_a_stranger_is(cli: Cli, rack: Path) -> None:
    assert cli("up", rack).returncode == 0
    assert "nothing found" in cli("check", rack).stdout
    other = cli("check", rack, INFER_DEV_RUNTIME_DIR=str(rack.parent / "elsewhere"))
    assert other.returncode == 78
    assert other.stdout.count("port-") + other.stdout.count("is taken") >= 2, other.stdout


def test_port_of_an_instance_of_another_file_is_a_finding(cli: Cli, rack: Path, tmp_path: Path) -> None:
    assert cli("up", rack).returncode == 0
    other = tmp_path / "other.toml"
    other.write_text(
        rack.read_text().replace("instance.alpha", "instance.gamma").replace("instance.beta", "instance.d")
    )
    checked = cli("check", other)
    assert (checked.returncode, cli("up", other).returncode) == (78, 78)
    assert checked.stdout.count("is taken by ") == 2


def test_port_of_the_daemons_own_api_is_no_finding(cli: Cli, rack: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    spoil(rack, "[master]", f"[master]\napi_port = {port}")
    assert cli("up", rack).returncode == 0
    daemon = json.loads(cli("status", "--json").stdout)["daemon"]
    assert f"http://127.0.0.1:{port}" in daemon["api"]
    other = rack.parent / "other.toml"
    text = rack.read_text().partition("[instance.alpha.server]")[0].replace(f"api_port = {port}\n", "")
    other.write_text(f"{text}[instance.gamma.server]\nport = {port}\n")
    assert "port" not in "".join(line for line in cli("check", other).stdout.splitlines() if "error" in line)


def test_check_starts_nothing_but_the_servers_help(rack: Path, parts: Parts, tmp_path: Path) -> None:
    program = """
import sys
STARTS = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "os.system", "_posixsubprocess.fork_exec")
started = []
def note(event, args):
    if event in STARTS:
        started.append([event, [str(one) for one in args[1]] if len(args) > 1 else []])
sys.addaudithook(note)
from infer_dev.cli.main import main
status = main(["check", sys.argv[1]])
print(status, started, file=sys.stderr)
"""
    env = {
        **os.environ,
        "INFER_DEV_CACHE_DIR": str(tmp_path / "cache"),
        "INFER_DEV_RUNTIME_DIR": str(tmp_path / "run"),
    }
    told = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", program, rack], env=env, cwd=ROOT, capture_output=True, text=True, check=True
        )
        told.append(run.stderr.splitlines()[-1])
    calls = [["subprocess.Popen", [parts.server, word]] for word in ("--help", "--version")]
    assert told == [f"0 {calls}", "0 []"]


def test_up_refuses_what_cannot_work_and_leaves_nothing(cli: Cli, rack: Path) -> None:
    line = spoil(rack, "ctx_size", "ctx_sise")
    up = cli("up", rack)
    assert up.returncode == 78
    assert f"cannot start {rack}:{line}: instance.alpha.server.ctx_sise: " in up.stderr
    assert "--no-check" in up.stderr
    assert cli.daemon_pid() is None or not cli.status()


def test_model_that_broke_since_the_last_up_is_noticed(cli: Cli, rack: Path, parts: Parts, tmp_path: Path) -> None:
    model = tmp_path / "copy.gguf"
    model.write_bytes(Path(parts.model).read_bytes())
    rack.write_text(rack.read_text().replace(parts.model, str(model)))
    for _ in range(2):
        assert cli("up", rack).returncode == 0
        cli("down")
    os.truncate(model, model.stat().st_size - 1)
    up = cli("up", rack)
    assert up.returncode == 78
    assert "1 bytes are missing" in up.stderr


def test_up_beside_a_running_daemon_refuses_as_well(
    cli: Cli, rack: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    assert cli("up", rack).returncode == 0
    before = cli.status()
    other = tmp_path / "other.toml"
    text = rack.read_text().partition("[instance.alpha.server]")[0]
    other.write_text(f"{text}[instance.gamma.server]\nport = {free_port()}\nctx_sise = 1024\n")
    up = cli("up", other)
    assert up.returncode == 78, up.stderr
    assert "did you mean ctx_size?" in up.stderr
    assert cli.status().keys() == before.keys()


def test_mistake_in_a_default_is_told_once_with_the_names(cli: Cli, rack: Path) -> None:
    line = spoil(rack, 'host = "127.0.0.1"', 'host = "127.0.0.1"\nctx_sise = 1')
    up = cli("up", rack)
    assert up.returncode == 78
    assert up.stderr.startswith(f"infer-dev: cannot start {rack}:{line + 1}: instance.server.ctx_sise: ")
    assert (up.stderr.count("ctx-sise"), up.stderr.count("[alpha, beta]")) == (1, 1)


def test_up_after_the_daemon_died_takes_over_what_could_not_start_now(
    cli: Cli, rack: Path, parts: Parts, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    shutil.copy(parts.model, model)
    spoil(rack, f'"{parts.model}"', f'"{model}"')
    assert cli("up", rack).returncode == 0
    before = {name: one["pid"] for name, one in cli.status().items()}
    kill_daemon(cli)
    model.unlink()
    up = cli("up", rack)
    assert up.returncode == 0, up.stderr
    assert {name: one["pid"] for name, one in cli.status().items()} == before
    cli("stop", "alpha")
    assert cli("up", rack).returncode == 78  # for this one a process would be started


def test_up_without_check_starts_and_the_server_says_what_is_wrong(cli: Cli, rack: Path) -> None:
    spoil(rack, "ctx_size", "ctx_sise")
    assert cli("up", "--no-check", rack).returncode == 1
    status = cli.status()
    assert (status["alpha"]["state"], status["alpha"]["cause"]) == ("failed", "bad-argument")
    assert status["beta"]["state"] == "ready"


def test_up_shows_a_warning_and_starts(cli: Cli, rack: Path) -> None:
    spoil(rack, "ctx_size = 1024", "ctx_size = 65536")
    up = cli("up", rack)
    assert up.returncode == 0
    assert f"warning: {rack}:" in up.stderr


def test_reload_refuses_what_cannot_work_and_touches_nothing(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    before = {name: one["pid"] for name, one in cli.status().items()}
    spoil(rack, "ctx_size", "ctx_sise")
    reload = cli("reload")
    assert reload.returncode == 78, reload.stderr
    assert "did you mean ctx_size?" in reload.stderr
    assert {name: one["pid"] for name, one in cli.status().items()} == before


def test_boot_starts_what_can_work_and_tells_what_cannot(
    boots: Boots,  # noqa: F811 - the fixture
    rack: Path,
) -> None:
    spoil(rack, "ctx_size", "ctx_sise")
    env = {"AUTO_INFER_LLAMA_CPP_ON_BOOT": "1", "AUTO_INFER_LLAMA_CPP_CONFIG": str(rack)}
    booted = boots("sleep", "1000", env=env)
    eventually(lambda: "instance=beta starting -> ready" in booted.output)
    eventually(lambda: "alpha is not started: " in booted.output)
    eventually((booted.runtime / "boot-error").exists)
    assert "did you mean ctx_size?" in (booted.runtime / "boot-error").read_text()
    cli = Cli(booted.runtime, booted.env)
    alpha = cli.status()["alpha"]
    assert (alpha["state"], alpha["cause"], alpha["restarts"]) == ("failed", "bad-argument", 0)
    assert "did you mean ctx_size?" in alpha["detail"]


def test_new_file_passes_the_check_and_serves(cli: Cli, parts: Parts, tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    made = cli("config", "new", parts.model, "-o", file)
    assert made.returncode == 0, made.stderr
    path = f"{Path(parts.server).parent}:{os.environ['PATH']}"
    checked = cli("check", "--strict", file, PATH=path)
    assert checked.returncode == 0, checked.stdout
    assert "nothing found" in checked.stdout
    assert cli("up", file, PATH=path).returncode == 0
    assert chat(cli.status()["tiny"]["port"])


def test_program_that_is_no_llama_server_is_not_judged_by_its_options(
    cli: Cli, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    file = tmp_path / "rack.toml"
    file.write_text(
        f'[master]\nllama_cpp_path = "{STAND_IN}"\n[instance.control]\nlog_dir = "{tmp_path}"\n'
        f'[instance.a.server]\nport = {free_port()}\nmodel = "/nowhere/m.gguf"\nready_after = 0\n'
    )
    checked = cli("check", file)
    assert checked.returncode == 0, checked.stdout
    assert "its --help is not that of a llama-server" in checked.stdout
    assert ": warning: instance.a.server.model: " in checked.stdout
    assert cli("up", file).returncode == 0


@pytest.mark.parametrize("width", ["0", "40"])
def test_terminal_without_room_shows_all_the_same(cli: Cli, rack: Path, width: str) -> None:
    spoil(rack, "ctx_size = 1024", "ctx_size = 65536")
    script = f"script -qec '{sys.executable} -m infer_dev check {rack}' /dev/null"
    env = cli.env | {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": width}
    shown = subprocess.run(
        script, shell=True, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    ).stdout
    assert "ctx-size" in shown
    assert re.search(r"^INSTANCE +DEVICE +WEIGHTS", shown, re.MULTILINE)
    assert re.search(r"^alpha +host +\S+ MiB", shown, re.MULTILINE)


def test_finding_is_one_line_whatever_the_file_says(cli: Cli, rack: Path, parts: Parts) -> None:
    spoil(rack, f'"{parts.model}"', r'"/none\n/x.toml:1: error: y"')
    lines = cli("check", rack).stdout.splitlines()
    assert [line.count(": error: ") for line in lines if ": error: " in line] == [2]


def test_binary_that_cannot_be_run_is_told_with_one_place_and_one_line(cli: Cli, rack: Path, parts: Parts) -> None:
    line = spoil(rack, str(parts.server), str(rack))
    (told,) = [one for one in cli("check", rack).stdout.splitlines() if ": error: " in one]
    assert told.startswith(
        f"{rack}:{line}: error: master.llama_cpp_path: cannot find llama-server: {rack}: is not exec"
    )
