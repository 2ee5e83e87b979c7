"""What users see when the daemon ends and another one goes on; and of plan, reload and the order of starts."""

import json
import os
import re
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infer_dev.supervisor.history import KEPT_RECORDS
from tests.conftest import STAND_IN, Cli, Parts, chat, eventually, is_alive, marked_processes

FREE_PORT = Callable[[], int]
HISTORY = "history.jsonl"


@pytest.fixture
def rack(tmp_path: Path, parts: Parts, free_port: FREE_PORT) -> Path:
    """A file with two real servers."""
    path = tmp_path / "rack.toml"
    head = _head(tmp_path, server=parts.server, model=parts.model)
    path.write_text(
        f"{head}[instance.alpha.server]\nport = {free_port()}\n[instance.beta.server]\nport = {free_port()}\n"
    )
    return path


@pytest.fixture
def stand_ins(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of stand-ins and gives its path."""

    def write(body: str, name: str = "rack.toml") -> Path:
        path = tmp_path / name
        path.write_text(_head(tmp_path, server=str(STAND_IN), model="m.gguf") + textwrap.dedent(body))
        return path

    return write


def _head(folder: Path, *, server: str, model: str) -> str:
    return textwrap.dedent(f"""
        [master]
        llama_cpp_path = "{server}"
        [instance.control]
        log_dir = "{folder}/logs"
        gpu_ids = "none"
        [instance.server]
        host = "127.0.0.1"
        model = "{model}"
    """)


def pids(cli: Cli) -> dict[str, object]:
    return {name: one["pid"] for name, one in cli.status().items()}


def kill_daemon(cli: Cli) -> int:
    """Kill the daemon; returns the pid it had."""
    pid = cli.daemon_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    return pid


def events(cli: Cli) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cli("events", "--json").stdout.splitlines()]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# The daemon ends


@pytest.mark.real
def test_servers_go_on_without_a_daemon_and_the_next_up_adopts_them(cli: Cli, rack: Path) -> None:
    assert cli("up", rack).returncode == 0
    before = cli.status()
    old = kill_daemon(cli)
    assert all(chat(one["port"]) for one in before.values()), "served in the gap"
    assert cli("status").returncode == 69
    up = cli("up", rack)
    assert (up.returncode, up.stderr) == (0, "alpha ready\nbeta ready\n")
    assert cli.daemon_pid() not in (None, old)
    after = cli.status()
    for name, one in after.items():
        was = before[name]
        assert (one["state"], one["pid"], one["restarts"], one["cause"]) == ("ready", was["pid"], 0, None)
        assert (was["adopted"], one["adopted"]) == (False, True)
        assert float(str(one["uptime_s"])) > float(str(was["uptime_s"]))
        assert one["ready_after_s"] == was["ready_after_s"]
        assert chat(one["port"])
    rows = [re.split(r"  +", line) for line in cli("status").stdout.splitlines()]
    assert [row[rows[0].index("RESTARTS")] for row in rows[1:]] == ["0", "0"]


@pytest.mark.real
def test_adopted_server_is_still_kept_alive_and_stopped(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    before = pids(cli)
    kill_daemon(cli)
    cli("up", rack)
    os.kill(int(str(before["alpha"])), signal.SIGKILL)
    eventually(lambda: (one := cli.status()["alpha"])["state"] == "ready" and one["pid"] != before["alpha"])
    one = cli.status()["alpha"]
    assert (one["restarts"], one["adopted"]) == (1, False)
    assert cli("stop", "beta").returncode == 0
    assert not is_alive(int(str(before["beta"])))
    assert cli("down").returncode == 0
    assert marked_processes(cli.runtime) == []


@pytest.mark.real
def test_server_that_died_in_the_gap_is_started_again(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    before = pids(cli)
    kill_daemon(cli)
    os.kill(int(str(before["alpha"])), signal.SIGKILL)
    eventually(lambda: not is_alive(int(str(before["alpha"]))))
    up = cli("up", rack)
    assert up.returncode == 0, up.stderr
    after = cli.status()
    assert (after["alpha"]["state"], after["alpha"]["restarts"]) == ("ready", 1)
    assert after["alpha"]["pid"] != before["alpha"]
    assert after["beta"]["pid"] == before["beta"]


@pytest.mark.real
def test_replaced_daemon_leaves_every_server_its_pid(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    before, old = pids(cli), cli.daemon_pid()
    replaced = cli("daemon", "--replace")
    new = cli.daemon_pid()
    assert replaced.returncode == 0, replaced.stderr
    assert replaced.stderr == f"daemon {new} took over from {old}; it has 2 instances: alpha, beta\n"
    assert new != old
    assert old is not None
    assert not is_alive(old)
    assert pids(cli) == before
    assert {one["state"] for one in cli.status().values()} == {"ready"}


@pytest.mark.real
def test_daemon_that_does_not_answer_is_replaced_too(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    before, old = pids(cli), cli.daemon_pid()
    assert old is not None
    os.kill(old, signal.SIGSTOP)
    replaced = cli("daemon", "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert f"took over from {old}; it has 2 instances" in replaced.stderr
    assert not is_alive(old)
    assert pids(cli) == before


def test_replace_starts_a_daemon_where_none_runs(cli: Cli) -> None:
    replaced = cli("daemon", "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert replaced.stderr == f"no daemon ran; {cli.daemon_pid()} does now; no instance runs\n"
    assert json.loads(cli("status", "--json").stdout)["instances"] == []


def test_stopped_instance_stays_stopped_under_the_next_daemon(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    cli("up", stand_ins(f"[instance.a.server]\nport = {free_port()}\n[instance.b.server]\nport = {free_port()}"))
    cli("stop", "a")
    kill_daemon(cli)
    assert cli("daemon", "--replace").returncode == 0
    assert {name: one["state"] for name, one in cli.status().items()} == {"a": "stopped", "b": "ready"}


def test_history_and_its_ids_go_on_across_daemons(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    file = stand_ins(f"[instance.a.server]\nport = {free_port()}")
    cli("up", file)
    first = events(cli)
    kill_daemon(cli)
    cli("up", file)
    cli("restart", "a")
    second = events(cli)
    assert second[: len(first)] == first
    assert [one["id"] for one in second] == list(range(1, len(second) + 1))
    assert [one["new"] for one in second] == ["starting", "ready", "stopping", "starting", "ready"]
    cli("down")
    cli("up", file)
    assert [one["id"] for one in events(cli)] == list(range(1, len(events(cli)) + 1))
    assert events(cli)[: len(second)] == second


def test_history_of_a_new_daemon_is_bounded(cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT) -> None:
    cli.runtime.mkdir(mode=0o700)
    record = {"time": "2026-01-02T00:00:00.000+00:00", "instance": "a", "old": "stopped", "new": "starting"}
    record |= {"after_s": 1.0, "pid": None, "cause": None, "detail": "", "log_tail": []}
    lines = [json.dumps({"id": number, **record}) + "\n" for number in range(1, 2 * KEPT_RECORDS + 1)]
    (cli.runtime / HISTORY).write_text("".join(lines) + '{"id": 99999, "time": "20')  # cut off by the daemon's end
    cli("up", stand_ins(f"[instance.a.server]\nport = {free_port()}"))
    found = events(cli)
    assert len(found) == KEPT_RECORDS
    assert found[-1]["id"] == 2 * KEPT_RECORDS + 2, "starting and ready came behind what was there"
    assert len((cli.runtime / HISTORY).read_text().splitlines()) <= KEPT_RECORDS + 2


def test_state_of_an_earlier_life_of_the_container_is_forgotten(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    cli("up", stand_ins(f"[instance.a.server]\nport = {free_port()}"))
    pid = int(str(pids(cli)["a"]))
    kill_daemon(cli)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    for path in [*(cli.runtime / "instances").iterdir(), cli.runtime / "sources.json"]:
        saved = json.loads(path.read_text())
        path.write_text(json.dumps(saved | {"life_id": "another:1"}))
    assert cli("daemon", "--replace").returncode == 0
    assert cli.status() == {}
    assert "tell of an earlier life" in (cli.runtime / "daemon.log").read_text()
    assert not (cli.runtime / "sources.json").exists()


# Plan and reload


def test_plan_and_reload_change_what_differs_and_nothing_else(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    ports = {name: free_port() for name in ("same", "changed", "policy", "gone", "new")}
    table = "[instance.{0}.server]\nport = {1}\n"
    common = table.format("same", ports["same"])
    file = stand_ins(common + "".join(table.format(name, ports[name]) for name in ("changed", "policy", "gone")))
    assert cli("up", file).returncode == 0
    before = pids(cli)
    assert cli("plan", file).stdout.splitlines() == [
        f"= keep     {name}" for name in ("same", "changed", "policy", "gone")
    ]
    stand_ins(
        common
        + table.format("changed", ports["changed"])
        + "ctx_size = 512\n[instance.policy.control]\nstop_timeout_s = 3\n"
        + table.format("policy", ports["policy"])
        + table.format("new", ports["new"])
    )
    plan = cli("plan", file)
    assert plan.returncode == 0
    assert sorted(plan.stdout.splitlines()) == [
        "+ start    new",
        "- stop     gone",
        "= keep     same",
        "~ restart  changed  --ctx-size 512",
        "· update   policy   stop_timeout_s 15 -> 3",
    ]
    told = json.loads(cli("plan", file, "--json").stdout)
    assert (told["starting"], told["stopping"]) == (["changed", "new"], ["changed", "gone"])
    assert pids(cli) == before, "a plan changes nothing"
    reload = cli("reload")
    assert reload.returncode == 0, reload.stderr
    assert f"{file}: 1 new, 1 gone, 1 changed, 1 updated, 1 unchanged\n" in reload.stderr
    after = cli.status()
    assert list(after) == ["same", "changed", "policy", "new"]
    assert {one["state"] for one in after.values()} == {"ready"}
    assert [after[name]["pid"] == before[name] for name in ("same", "policy", "changed")] == [True, True, False]
    assert not is_alive(int(str(before["gone"])))


def test_plan_without_a_daemon_shows_what_would_start(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    plan = cli("plan", stand_ins(f"[instance.a.server]\nport = {free_port()}"))
    assert (plan.returncode, plan.stdout) == (0, "+ start    a\n")
    assert cli.daemon_pid() is None


def test_policy_alone_takes_effect_without_a_new_process(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    port = free_port()
    file = stand_ins(f"""
        [instance.a.control]
        restart = "always"
        [instance.a.server]
        port = {port}
    """)
    cli("up", file)
    pid = pids(cli)["a"]
    edit(file, 'restart = "always"', 'restart = "never"')
    assert cli("reload").returncode == 0
    assert pids(cli)["a"] == pid
    os.kill(int(str(pid)), signal.SIGKILL)
    eventually(lambda: cli.status()["a"]["state"] == "failed")


def test_reload_swaps_the_ports_of_two_instances(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    one, two = free_port(), free_port()
    body = "[instance.a.server]\nport = {}\n[instance.b.server]\nport = {}\n"
    cli("up", stand_ins(body.format(one, two)))
    stand_ins(body.format(two, one))
    reload = cli("reload")
    assert reload.returncode == 0, reload.stderr
    assert {name: (found["port"], found["state"]) for name, found in cli.status().items()} == {
        "a": (two, "ready"),
        "b": (one, "ready"),
    }
    assert not [one for one in events(cli) if one["cause"]]


def test_bad_file_changes_nothing(cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT) -> None:
    port = free_port()
    file = stand_ins(f"[instance.a.server]\nport = {port}")
    cli("up", file)
    before = pids(cli)
    stand_ins(f"[instance.a.control]\ngpu_idz = 1\n[instance.a.server]\nport = {port}\nctx_size = 512")
    for command in (("reload",), ("reload", file), ("plan", file), ("up", file)):
        refused = cli(*command)
        assert (refused.returncode, refused.stdout) == (78, ""), command
        assert f"{file}:" in refused.stderr
        assert "gpu_idz: unknown key" in refused.stderr
    assert pids(cli) == before
    assert cli.status()["a"]["state"] == "ready"


def test_one_bad_file_of_several_changes_nothing_in_any(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    good = stand_ins(f"[instance.a.server]\nport = {free_port()}", "good.toml")
    bad = stand_ins(f"[instance.b.server]\nport = {free_port()}", "bad.toml")
    cli("up", good)
    cli("up", bad)
    before = pids(cli)
    edit(good, "[instance.a.server]", "[instance.a.server]\nctx_size = 512")
    edit(bad, "[instance.b.server]", "[instance.b.server")
    assert cli("reload").returncode == 78
    assert pids(cli) == before
    assert cli("reload", good).returncode == 0, "the good one alone can be had"
    after = pids(cli)
    assert after["a"] != before["a"]
    assert after["b"] == before["b"]


def test_reload_of_a_file_that_is_not_up_says_so(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    file = stand_ins(f"[instance.a.server]\nport = {free_port()}")
    cli("up", file)
    refused = cli("reload", file.with_name("other.toml"))
    assert refused.returncode != 0
    assert "that file is not up" in refused.stderr


def test_plan_never_shows_a_secret(cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT) -> None:
    body = """
        [instance.a.control]
        env = {{ HF_TOKEN = "{0}-token" }}
        [instance.a.server]
        port = {1}
        api_key = "{0}-key"
    """
    port = free_port()
    file = stand_ins(body.format("s3cret-old", port))
    cli("up", file)
    stand_ins(body.format("s3cret-new", port))
    shown = [cli("plan", file), cli("plan", file, "--json"), cli("reload"), cli("events", "--json")]
    shown += [cli("status", "--json"), cli("logs", "a")]
    assert shown[0].stdout.startswith("~ restart  a"), shown[0]
    for one in shown:
        assert one.returncode == 0, one
        assert "s3cret" not in one.stdout + one.stderr, one.args
    assert "s3cret" not in (cli.runtime / "daemon.log").read_text()
    assert (cli.runtime / "instances" / "a.json").stat().st_mode & 0o077 == 0


# Order


def test_start_after_is_followed(cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT) -> None:
    file = stand_ins(f"""
        [instance.last.control]
        start_after = ["first", "second"]
        [instance.last.server]
        port = {free_port()}
        [instance.second.control]
        start_after = ["first"]
        [instance.second.server]
        port = {free_port()}
        extra_args = ["--ready-after", "0.3"]
        [instance.first.server]
        port = {free_port()}
        extra_args = ["--ready-after", "0.3"]
    """)
    assert cli("up", file).returncode == 0
    ready = [one["instance"] for one in events(cli) if one["new"] == "ready"]
    assert ready == ["first", "second", "last"]
    began = process_starts(cli)
    assert began["first"] < began["second"] < began["last"]


def process_starts(cli: Cli) -> dict[str, int]:
    """When each instance's process began, in clock ticks."""
    stats = {name: Path(f"/proc/{pid}/stat").read_text() for name, pid in pids(cli).items()}
    return {name: int(stat.rpartition(")")[2].split()[19]) for name, stat in stats.items()}


def test_instances_that_fit_themselves_to_one_gpu_load_one_after_the_other(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    tables = ""
    for name, gpu, fit in (("a", "0", "on"), ("b", "0,1", "on"), ("other", "2", "on"), ("fixed", "0", "off")):
        tables += f"""
            [instance.{name}.control]
            gpu_ids = "{gpu}"
            [instance.{name}.server]
            port = {free_port()}
            fit = "{fit}"
            extra_args = ["--ready-after", "2"]
        """
    file = stand_ins(tables)
    assert cli("up", file, "--no-wait").returncode == 0
    held = cli.status()
    assert (held["b"]["state"], held["b"]["pid"], held["b"]["note"]) == ("starting", None, "waits for a")
    assert {name: one["pid"] is not None for name, one in held.items()} == {
        "a": True,
        "b": False,
        "other": True,
        "fixed": True,
    }
    assert cli("up", file).returncode == 0
    log = (cli.runtime / "daemon.log").read_text()
    assert log.index("instance=a starting -> ready") < log.index("instance=b pid=")
    assert log.index("instance=other pid=") < log.index("instance=a starting -> ready")
    assert log.index("instance=fixed pid=") < log.index("instance=a starting -> ready")


def test_start_of_a_held_instance_tells_for_whom_it_waits(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    file = stand_ins(f"""
        [instance.slow.server]
        port = {free_port()}
        extra_args = ["--ready-after", "600"]
        [instance.held.control]
        autostart = false
        start_after = ["slow"]
        [instance.held.server]
        port = {free_port()}
    """)
    cli("up", file, "--no-wait")
    started = cli("start", "held", "--no-wait")
    assert started.returncode == 0, started.stderr
    one = cli.status()["held"]
    assert (one["state"], one["pid"], one["note"]) == ("starting", None, "waits for slow")
    kill_daemon(cli)
    assert cli("daemon", "--replace").returncode == 0
    one = cli.status()["held"]
    assert (one["state"], one["pid"], one["note"]) == ("starting", None, "waits for slow"), "the next daemon holds it"
    assert cli("stop", "slow").returncode == 0
    eventually(lambda: cli.status()["held"]["state"] == "ready")


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ('["nobody"]', "names 'nobody', which is no instance of this file"),
        ('["b"]', "goes in a circle: a -> b -> a"),
        ('["a"]', "goes in a circle: a -> a"),
    ],
)
def test_start_after_that_cannot_be_followed_is_refused_with_its_line(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT, after: str, told: str
) -> None:
    file = stand_ins(
        f"[instance.a.control]\nstart_after = {after}\n[instance.a.server]\nport = {free_port()}\n"
        f'[instance.b.control]\nstart_after = ["a"]\n[instance.b.server]\nport = {free_port()}\n'
    )
    line = file.read_text().splitlines().index(f"start_after = {after}") + 1
    for command in ("plan", "up"):
        refused = cli(command, file)
        assert refused.returncode == 78, refused.stderr
        assert f"{file}:{line}: " in refused.stderr, refused.stderr
        assert told in refused.stderr
    assert marked_processes(cli.runtime) == []


def test_up_goes_on_waiting_while_another_daemon_takes_over(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    path = stand_ins(f'[instance.a.server]\nport = {free_port()}\nextra_args = ["--ready-after", "2"]')
    waiting = cli.start("up", path)
    pid = eventually(lambda: cli("status").returncode == 0 and cli.status().get("a", {}).get("pid"))
    following = cli.start("events", "-f", "--json")
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["new"] == "starting"
    assert cli("daemon", "--replace").returncode == 0
    _, told = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, told
    assert "a ready" in told
    assert (cli.status()["a"]["pid"], cli.status()["a"]["adopted"]) == (pid, True)
    assert any(json.loads(line)["new"] == "ready" for line in iter(following.stdout.readline, ""))
    following.terminate()
    following.communicate(timeout=10)


def test_stop_that_could_not_be_saved_is_saved_later(
    cli: Cli, stand_ins: Callable[..., Path], free_port: FREE_PORT
) -> None:
    """Or the next daemon would go by what was saved before, and start it again."""
    path = stand_ins(f"""
        [instance.a.server]
        port = {free_port()}
    """)
    assert cli("up", path).returncode == 0
    saved = cli.runtime / "instances" / "a.json"
    blocked = cli.runtime / "instances" / "a.json.new"
    blocked.mkdir()
    assert cli("stop", "a").returncode == 0
    blocked.rmdir()
    eventually(lambda: json.loads(saved.read_text())["state"][0]["state"] == "stopped")
    kill_daemon(cli)
    assert cli("daemon", "--replace").returncode == 0
    assert cli.status()["a"]["state"] == "stopped"
