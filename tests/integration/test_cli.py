"""The command line as users call it, with the real llama-server and the small model."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import STAND_IN, Cli, Parts, chat, eventually, is_alive, marked_processes

pytestmark = pytest.mark.real


@pytest.fixture
def rack(tmp_path: Path, parts: Parts, free_port) -> Path:
    """A file with two instances of the small model."""
    path = tmp_path / "rack.toml"
    path.write_text(
        f"""
[master]
llama_cpp_path = "{parts.server}"
[instance.control]
log_dir = "{tmp_path}/logs"
[instance.server]
host = "127.0.0.1"
model = "{parts.model}"
[instance.alpha.server]
port = {free_port()}
[instance.beta.server]
port = {free_port()}
alias = "beta-model"
"""
    )
    return path


def test_up_serves_and_up_again_changes_no_pid(cli: Cli, rack: Path) -> None:
    first = cli("up", rack)
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    assert "alpha ready after" in first.stderr
    before = cli.status()
    assert {one["state"] for one in before.values()} == {"ready"}
    assert all(chat(one["port"]) for one in before.values())
    again = cli("up", rack)
    assert (again.returncode, again.stderr) == (0, "alpha ready\nbeta ready\n")
    assert {name: one["pid"] for name, one in cli.status().items()} == {
        name: one["pid"] for name, one in before.items()
    }


def test_up_after_a_change_waits_for_the_new_process(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    before = cli.status()
    rack.write_text(rack.read_text().replace("[instance.beta.server]", "[instance.beta.server]\nctx_size = 512"))
    up = cli("up", rack)
    assert up.returncode == 0, up.stderr
    after = cli.status()
    assert {one["state"] for one in after.values()} == {"ready"}
    assert after["alpha"]["pid"] == before["alpha"]["pid"]
    assert after["beta"]["pid"] != before["beta"]["pid"]


def test_library_path_of_the_caller_restarts_nothing(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    pids = {name: one["pid"] for name, one in cli.status().items()}
    cli("up", rack, LD_LIBRARY_PATH="/elsewhere", CUDA_DEVICE_ORDER="FASTEST_FIRST")
    assert {name: one["pid"] for name, one in cli.status().items()} == pids


def test_down_leaves_no_process_no_socket_no_lock(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    daemon = cli.daemon_pid()
    assert daemon is not None
    down = cli("down")
    assert (down.returncode, down.stdout) == (0, "alpha stopped\nbeta stopped\n")
    assert sorted(entry.name for entry in cli.runtime.iterdir()) == ["daemon.log", "history.jsonl"]
    assert not is_alive(daemon)
    assert marked_processes(cli.runtime) == []
    again = cli("down")
    assert (again.returncode, again.stderr) == (0, "nothing is up\n")


def test_down_of_one_file_leaves_the_other(cli: Cli, rack: Path, tmp_path: Path, free_port) -> None:
    other = tmp_path / "other.toml"
    text = rack.read_text().split("[instance.alpha")[0]
    other.write_text(f"{text}[instance.gamma.server]\nport = {free_port()}\n")
    cli("up", rack)
    cli("up", other)
    assert set(cli.status()) == {"alpha", "beta", "gamma"}
    assert cli("down", rack).stdout == "alpha stopped\nbeta stopped\n"
    assert {name: one["state"] for name, one in cli.status().items()} == {"gamma": "ready"}
    assert cli("down", other).returncode == 0
    assert cli("status").returncode == 69


def test_killed_instance_comes_back_and_status_says_why(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    pid = cli.status()["alpha"]["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: (one := cli.status()["alpha"])["state"] == "ready" and one["pid"] != pid)
    one = cli.status()["alpha"]
    assert (one["cause"], one["restarts"], one["exit_status"]) == ("killed", 1, -9)
    assert "1 (killed)" in cli("status").stdout
    log = cli("logs", "alpha").stdout
    assert log.count("==== ") == 2
    assert log.count("model loaded") == 2
    assert "killed: signal SIGKILL" in cli("events").stdout


def test_server_on_a_unix_socket_comes_back_after_a_kill(cli: Cli, rack: Path) -> None:
    text = rack.read_text().replace(
        'host = "127.0.0.1"', 'host = "u.sock"\napi_prefix = "/x"\napi_key = "s3cret,other"'
    )
    rack.write_text(text.split("[instance.beta")[0])
    up = cli("up", rack)
    assert up.returncode == 0, up.stderr
    pid = cli.status()["alpha"]["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: (one := cli.status()["alpha"])["state"] == "ready" and one["pid"] != pid)
    shown = cli("status", "--json").stdout + cli("logs", "alpha").stdout + cli("events", "--json").stdout
    assert "s3cret" not in shown + (cli.runtime / "daemon.log").read_text()


def test_instance_taken_down_while_up_waits_is_told(cli: Cli, rack: Path) -> None:
    overrides = {
        "master": {"llama_cpp_path": str(STAND_IN)},
        "instance": {"server": {"extra_args": ["--ready-after", "600"]}},
    }
    up = cli.start("up", rack, AUTO_INFER_LLAMA_CPP_OVERRIDES=json.dumps(overrides))
    eventually(lambda: cli.daemon_pid() and len(cli.status()) == 2)
    other = rack.with_name("other.toml")
    other.write_text(rack.read_text().split("[instance.alpha")[0] + "[instance.c.control]\nautostart = false\n")
    cli("up", other)
    cli("down", rack)
    _, told = up.communicate(timeout=30)
    assert up.returncode == 1
    assert "taken down meanwhile" in told


def test_missing_model_fails_with_its_cause_and_leaves_the_other_alone(cli: Cli, rack: Path) -> None:
    rack.write_text(
        rack.read_text().replace("[instance.beta.server]", '[instance.beta.server]\nmodel = "/no/such.gguf"')
    )
    up = cli("up", "--no-check", rack)
    assert up.returncode == 1
    assert "beta failed: model-not-found" in up.stderr
    assert "failed to open GGUF file '/no/such.gguf'" in up.stderr
    assert "hint: correct server.model" in up.stderr
    status = cli.status()
    assert (status["alpha"]["state"], status["alpha"]["restarts"]) == ("ready", 0)
    assert (status["beta"]["state"], status["beta"]["cause"]) == ("failed", "model-not-found")
    shown = cli("status")
    assert shown.returncode == 1
    assert "failed (model-not-found)" in shown.stdout


BAD_FILES = {
    "syntax": ("[instance.a.server\n", 78, ["bad.toml:1:19", "not valid TOML"]),
    "unknown-key": (
        "[instance.a.control]\ngpu_idz = '0'\n",
        78,
        ["bad.toml:2: instance.a.control.gpu_idz", "gpu_ids"],
    ),
    "wrong-type": (
        "[instance.a.control]\nenabled = 'yes'\n",
        78,
        ["bad.toml:2: instance.a.control.enabled", "expected true or false", 'the string "yes"'],
    ),
    "bad-name": ("[instance.'a b'.server]\nport = 1\n", 78, ["bad.toml:1", "cannot be an instance's name"]),
    "one-port-twice": (
        "[instance.server]\nmodel='m'\nport=19999\n[instance.a.server]\n[instance.b.server]\n",
        78,
        [
            "bad.toml:3: instance.server.port: instance b: port 19999 is also that of instance a",
            "hint: give each its own port",
        ],
    ),
    "one-log-twice": (
        "[instance.server]\nmodel='m'\n[instance.control]\nlog_file='/tmp/x.log'\n"
        "[instance.a.server]\nport=1\n[instance.b.server]\nport=2\n",
        78,
        ["bad.toml:4: instance.control.log_file: instance b: the log /tmp/x.log is also that of instance a"],
    ),
    "no-model": ("[instance.a.server]\nport = 19999\n", 78, ["bad.toml:1: instance.a: no model"]),
    "log-folder": (
        "[instance.a.control]\nlog_dir='/proc/nowhere'\n[instance.a.server]\nmodel='m'\nport = 19999\n",
        78,
        ["bad.toml:2: instance.a.control.log_dir: the log", "cannot be written", "control.log_dir"],
    ),
    "nul": (
        '[instance.a.server]\nmodel = "m"\nextra_args = ["a\\u0000b"]\n',
        78,
        ["bad.toml:3: instance.a.server.extra_args", "a NUL character cannot be passed"],
    ),
    "environment-name": (
        "[instance.a.control.env]\n'A=B' = 'x'\n",
        78,
        ["bad.toml:1: instance.a.control.env", "'A=B' cannot be the name of an environment variable"],
    ),
    "no-binary": (
        "[master]\nllama_cpp_path='/no/such/server'\n[instance.a.server]\nmodel='m'\n",
        69,
        ["cannot find llama-server", "/no/such/server: does not exist"],
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_is_told_with_its_place_and_starts_nothing(
    cli: Cli, tmp_path: Path, parts: Parts, kind: str
) -> None:
    body, status, told = BAD_FILES[kind]
    path = tmp_path / "bad.toml"
    path.write_text(body)
    (tmp_path / "m").symlink_to(parts.model)
    search_path = f"{Path(parts.server).parent}:{os.environ['PATH']}"
    up = cli("up", path, PATH=search_path)
    assert up.returncode == status, up.stderr
    assert up.stderr.startswith("infer-dev: cannot ")
    assert all(part in up.stderr for part in told), up.stderr
    assert len(up.stderr.splitlines()) <= 2
    assert up.stdout == ""
    assert cli.daemon_pid() is None
    assert marked_processes(cli.runtime) == []


def test_no_such_file_is_told(cli: Cli) -> None:
    up = cli("up", "/no/such.toml")
    assert (up.returncode, cli.daemon_pid()) == (78, None)
    assert "cannot read /no/such.toml: no such file" in up.stderr


def test_no_file_named_is_a_usage_error(cli: Cli) -> None:
    up = cli("up")
    assert up.returncode == 2
    assert "AUTO_INFER_LLAMA_CPP_CONFIG" in up.stderr


def test_file_named_by_the_environment_is_used(cli: Cli, rack: Path) -> None:
    assert cli("up", AUTO_INFER_LLAMA_CPP_CONFIG=str(rack)).returncode == 0


def test_no_binary_lists_every_place(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[instance.a.server]\nmodel='m'\n")
    up = cli("up", path, PATH="/nowhere:/neither")
    assert up.returncode == 69
    for place in (
        "/soft/app/llama-cpp/bin/llama-server: does not exist",
        "/hard/volume/workspace/llama-cpp/build/bin/llama-server: does not exist",
        "llama-server on PATH: none that can run in /nowhere:/neither",
    ):
        assert place in up.stderr
    assert cli.daemon_pid() is None


def test_port_taken_by_another_program_is_told_with_its_pid(cli: Cli, rack: Path) -> None:
    port = next(int(line.split("=")[1]) for line in rack.read_text().splitlines() if line.startswith("port"))
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        up = cli("up", rack)
    assert up.returncode == 69
    assert f"instance.alpha.server.port: port {port} is taken by" in up.stderr
    assert f"(pid {os.getpid()})" in up.stderr
    assert cli.daemon_pid() is None


def test_overrides_that_are_not_json_are_an_error(cli: Cli, rack: Path) -> None:
    up = cli("up", rack, AUTO_INFER_LLAMA_CPP_OVERRIDES="{port: 1}")
    assert up.returncode == 78
    assert "cannot read AUTO_INFER_LLAMA_CPP_OVERRIDES: not valid JSON" in up.stderr
    assert cli.daemon_pid() is None


def test_disabled_file_starts_nothing_and_is_no_error(cli: Cli, rack: Path) -> None:
    up = cli("up", rack, AUTO_INFER_LLAMA_CPP_OVERRIDES='{"master": {"enable": false}}')
    assert (up.returncode, up.stdout) == (0, f"{rack}: master.enable is false: nothing is started\n")
    assert cli.daemon_pid() is None


def test_values_reach_the_process_unchanged(cli: Cli, rack: Path) -> None:
    odd = ["two words", 'it\'s "quoted"', "$HOME `id` $(id)", "line\nbreak", "🦙 żółć", "x" * 100_000, ""]
    overrides = {
        "master": {"llama_cpp_path": str(STAND_IN)},
        "instance": {"alpha": {"server": {"extra_args": odd}, "control": {"gpu_ids": "1,0"}}},
    }
    up = cli("up", rack, AUTO_INFER_LLAMA_CPP_OVERRIDES=json.dumps(overrides))
    assert up.returncode == 0, up.stderr
    pid = cli.status()["alpha"]["pid"]
    argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    start = argv.index(odd[0])
    assert argv[start : start + len(odd)] == odd
    environ = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    assert "CUDA_VISIBLE_DEVICES=1,0" in environ
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in environ


def test_start_stop_restart_by_hand(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    assert cli("stop", "alpha", "beta").stdout == "alpha stopped\nbeta stopped\n"
    assert {one["state"] for one in cli.status().values()} == {"stopped"}
    assert cli("start", "alpha").returncode == 0
    pid = cli.status()["alpha"]["pid"]
    assert cli("restart", "alpha").returncode == 0
    assert cli.status()["alpha"]["pid"] != pid
    unknown = cli("stop", "alfa")
    assert unknown.returncode == 2
    assert "instances: alpha, beta" in unknown.stderr


def test_commands_without_a_daemon_say_so(cli: Cli) -> None:
    for command in (["status"], ["stop", "a"], ["logs", "a"], ["events"]):
        shown = cli(*command)
        assert shown.returncode == 69
        assert "infer-dev up FILE" in shown.stderr


def test_timeout_leaves_it_going(cli: Cli, rack: Path) -> None:
    overrides = {
        "master": {"llama_cpp_path": str(STAND_IN)},
        "instance": {"server": {"extra_args": ["--ready-after", "600"]}},
    }
    up = cli("up", rack, "--timeout", "0.3", AUTO_INFER_LLAMA_CPP_OVERRIDES=json.dumps(overrides))
    assert up.returncode == 75
    assert "alpha is starting" in up.stderr
    assert {one["state"] for one in cli.status().values()} == {"starting"}


def test_no_wait_returns_at_once(cli: Cli, rack: Path) -> None:
    up = cli("up", "--no-wait", rack)
    assert (up.returncode, up.stderr) == (0, "")
    eventually(lambda: {one["state"] for one in cli.status().values()} == {"ready"})


def test_logs_follow_goes_on_through_a_restart(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    following = cli.start("logs", "alpha", "-f")
    try:
        assert following.stdout is not None
        for life in range(2):
            line = ""
            while "model loaded" not in line:
                line = following.stdout.readline()
                assert line, "the stream ended"
            if life == 0:  # only now does it follow for sure
                assert cli("restart", "alpha").returncode == 0
    finally:
        following.terminate()
        following.communicate(timeout=10)


def test_logs_tail_shows_the_last_lines(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    whole = cli("logs", "alpha").stdout.splitlines()
    assert cli("logs", "alpha", "-n", "3").stdout.splitlines() == whole[-3:]
    assert cli("logs", "alpha", "-n", "0").stdout == ""


def test_events_as_json_lines(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    events = [json.loads(line) for line in cli("events", "--json").stdout.splitlines()]
    assert [event["new"] for event in events if event["instance"] == "alpha"] == ["starting", "ready"]
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    assert len(cli("events", "-n", "1").stdout.splitlines()) == 1


def test_foreground_instance_keeps_up_attached(cli: Cli, rack: Path) -> None:
    overrides = '{"instance": {"alpha": {"control": {"background": false}}}}'
    up = cli.start("up", rack, AUTO_INFER_LLAMA_CPP_OVERRIDES=overrides)
    eventually(lambda: cli.daemon_pid() and {one["state"] for one in cli.status().values()} == {"ready"})
    assert up.poll() is None
    cli("stop", "alpha")
    assert up.wait(timeout=30) == 0
    up.communicate()


def test_interrupt_of_attached_up_stops_that_instance(cli: Cli, rack: Path) -> None:
    overrides = '{"instance": {"alpha": {"control": {"background": false}}}}'
    up = cli.start("up", rack, AUTO_INFER_LLAMA_CPP_OVERRIDES=overrides)
    assert up.stderr is not None
    told = ""
    while "alpha is attached" not in told:
        told = up.stderr.readline()
        assert told
    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=30) == 0
    up.communicate()
    assert {name: one["state"] for name, one in cli.status().items()} == {"alpha": "stopped", "beta": "ready"}


def test_sighup_reloads_and_sigterm_ends_the_daemon(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    pids = {name: one["pid"] for name, one in cli.status().items()}
    rack.write_text(rack.read_text().replace('alias = "beta-model"', 'alias = "other"'))
    daemon = cli.daemon_pid()
    assert daemon is not None
    os.kill(daemon, signal.SIGHUP)
    eventually(lambda: (one := cli.status()["beta"])["alias"] == "other" and one["state"] == "ready")
    now = {name: one["pid"] for name, one in cli.status().items()}
    assert now["alpha"] == pids["alpha"]
    assert now["beta"] != pids["beta"]
    os.kill(daemon, signal.SIGTERM)
    eventually(lambda: not is_alive(daemon))
    assert marked_processes(cli.runtime) == []


def test_second_daemon_leaves(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    second = cli("daemon")
    assert second.returncode == 69
    assert "another daemon runs" in second.stderr
    assert cli("status").returncode == 0


def test_many_ups_at_once_start_one_daemon(cli: Cli, rack: Path) -> None:
    ups = [cli.start("up", rack) for _ in range(4)]
    assert [up.wait(timeout=60) for up in ups] == [0] * 4, [up.communicate() for up in ups]
    for up in ups:
        up.communicate()
    assert len(marked_processes(cli.runtime)) == 2


def test_stale_socket_is_replaced(cli: Cli, rack: Path) -> None:
    cli.runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(cli.runtime / "control.sock"))
    assert cli("up", rack).returncode == 0


def test_runtime_directory_that_others_can_write_is_refused(cli: Cli, rack: Path) -> None:
    cli.runtime.mkdir(mode=0o700)
    cli.runtime.chmod(0o777)
    up = cli("up", rack)
    assert up.returncode == 69
    assert "others can write it" in up.stderr


def test_help_version_and_typing_mistakes(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.returncode == 0
    assert "start what a file describes" in shown.stdout
    assert cli("--version").stdout.startswith("infer-dev ")
    mistake = cli("statsu")
    assert (mistake.returncode, "did you mean `infer-dev status`?" in mistake.stderr) == (2, True)
    for name in ("up", "status", "logs", "config", "events"):
        assert cli(name, "--help").stdout.startswith(f"Usage: infer-dev {name}")
    assert cli("status", "--bogus").returncode == 2
    assert cli("start").returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(cli: Cli, shell: str) -> None:
    shown = cli("completion", shell)
    assert shown.returncode == 0
    assert "_INFER_DEV_COMPLETE" in shown.stdout


def test_completion_offers_commands_and_names(cli: Cli, rack: Path) -> None:
    def words(*typed: str) -> str:
        return cli(
            _INFER_DEV_COMPLETE="bash_complete", COMP_WORDS=" ".join(typed), COMP_CWORD=str(len(typed) - 1)
        ).stdout

    assert "plain,status" in words("infer-dev", "sta")
    cli("up", rack)
    assert "plain,beta" in words("infer-dev", "stop", "b")


def test_config_show_argv_prints_one_object_a_line(cli: Cli, rack: Path, parts: Parts) -> None:
    shown = cli("config", "show", rack, "--argv")
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [line["name"] for line in lines] == ["alpha", "beta"]
    assert set(lines[0]) == {"name", "argv", "env", "log_file", "gpu_ids", "background"}
    assert lines[1]["argv"][0] == parts.server
    assert lines[1]["argv"][-2:] == ["--alias", "beta-model"]


def test_config_show_without_a_binary_shows_and_warns(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[instance.a.server]\nmodel='m'\n")
    shown = cli("config", "show", path, "--argv", PATH="/nowhere")
    assert shown.returncode == 0
    assert "cannot find llama-server" in shown.stderr
    assert json.loads(shown.stdout)["argv"] == ["llama-server", "--model", "m"]


def test_config_show_can_be_read_again(cli: Cli, rack: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged.toml"
    merged.write_text(cli("config", "show", rack).stdout)
    assert cli("config", "show", merged, "--argv").stdout == cli("config", "show", rack, "--argv").stdout
    assert json.loads(cli("config", "show", rack, "--format", "json").stdout)["instance"]["beta"]["server"]["alias"]


@pytest.mark.parametrize("options", ["", "-n 99999"])  # one for each of the two ways to a command
def test_closed_pipe_is_no_error(cli: Cli, rack: Path, options: str) -> None:
    cli("up", rack)
    with (rack.parent / "logs" / "llama-server-alpha.log").open("a") as log:
        log.write("more than a pipe holds\n" * 40_000)
    piped = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m infer_dev logs alpha {options} | head -n 1; echo ${{PIPESTATUS[0]}}"],
        cwd=Path(__file__).parents[2],
        env=cli.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert piped.stdout.startswith("==== ")
    assert piped.stdout.splitlines()[1:] == ["141"]
    assert piped.stderr == ""
