"""Faults 1 to 6: the daemon dies, pids are reused, children do not go."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, eventually, is_alive
from tests.integration.faults.rig import Rack

EIGHT = tuple("abcdefgh")


def test_fault_01_kill_9_of_the_daemon_is_followed_by_adoption_without_a_second_copy(rack: Rack) -> None:
    for name in EIGHT:
        rack.add(name)
    before = rack.serve()
    rack.kill_daemon()
    assert all(is_alive(pid) for pid in before.values())
    up = rack.up()
    assert up.returncode == 0, up.stderr
    assert rack.pids() == before
    assert all(one["adopted"] and one["state"] == "ready" and not one["restarts"] for one in rack.all().values())
    assert {name: rack.leaders(name) for name in EIGHT} == {name: [pid] for name, pid in before.items()}


def test_fault_01_instances_that_end_while_no_daemon_runs_are_restarted(rack: Rack) -> None:
    rack.add("a")
    rack.add("b")
    before = rack.serve()
    rack.kill_daemon()
    os.kill(before["a"], signal.SIGKILL)
    eventually(lambda: not is_alive(before["a"]))
    rack.successor()
    eventually(lambda: rack.one("a")["pid"] not in (None, before["a"]))
    assert rack.until("a", "ready")["restarts"] == 1
    assert rack.until("b", "ready")["pid"] == before["b"]


def test_fault_02_daemon_killed_between_spawn_and_save_finds_the_child(rack: Rack) -> None:
    """No file larger than the record of an instance without a process can be written: the one after cannot."""
    rack.add("a", autostart=False)
    rack.serve()
    saved = rack.cli.runtime / "instances" / "a.json"
    limit = saved.stat().st_size + 40
    resource.prlimit(rack.daemon(), resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    rack.client.post("/instances/a/start")
    pid = rack.until("a", "ready")["pid"]
    rack.kill_daemon()
    life, process, _ = json.loads(saved.read_text())["state"]
    assert (life["wanted"], process, is_alive(pid)) == (True, None, True), "what this test wants to bring about"
    rack.successor()
    found = rack.until("a", "ready")
    assert (found["pid"], found["adopted"], rack.leaders("a")) == (pid, True, [pid])
    assert rack.up().returncode == 0
    assert (rack.one("a")["pid"], rack.leaders("a")) == (pid, [pid])


def test_fault_02_daemon_killed_between_a_restart_and_its_save_finds_the_new_child(rack: Rack) -> None:
    """What was saved last tells of the process before."""
    rack.add("a")
    old = rack.serve()["a"]
    saved = rack.cli.runtime / "instances" / "a.json"
    eventually(lambda: json.loads(saved.read_text())["state"][0]["state"] == "ready")
    resource.prlimit(rack.daemon(), resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    os.kill(old, signal.SIGKILL)
    eventually(lambda: rack.one("a")["pid"] not in (None, old))
    pid = rack.until("a", "ready")["pid"]
    rack.kill_daemon()
    assert json.loads(saved.read_text())["state"][1]["pid"] == old, "what this test wants to bring about"
    rack.successor()
    found = rack.until("a", "ready")
    assert (found["pid"], found["adopted"], rack.leaders("a")) == (pid, True, [pid])
    assert rack.up().returncode == 0
    assert rack.leaders("a") == [pid]


def test_fault_02_state_that_cannot_be_written_at_all_leads_to_no_second_copy(rack: Rack) -> None:
    rack.add("a")
    rack.save()
    (rack.cli.runtime / "instances").mkdir(parents=True)
    (rack.cli.runtime).chmod(0o700)
    (rack.cli.runtime / "instances" / "a.json.new").mkdir()  # what is written to that path fails
    pid = rack.serve()["a"]
    assert "cannot save the state" in rack.daemon_log()
    rack.kill_daemon()
    assert not (rack.cli.runtime / "instances" / "a.json").exists()
    up = rack.up()
    assert up.returncode == 0, up.stderr
    assert (rack.one("a")["pid"], rack.leaders("a")) == (pid, [pid])


@pytest.mark.parametrize("daemon", ["dead", "adopted"])
def test_fault_03_stranger_with_a_reused_pid_is_never_signalled(rack: Rack, daemon: str) -> None:
    """In a pid namespace the next pid can be chosen (`pid_reuse.py`)."""
    rack.add("a", stop_timeout_s=0.3)
    rack.save()
    inside = ["-m", "tests.integration.faults.pid_reuse", str(rack.file), str(rack.cli.runtime), daemon]
    told = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, *inside],
        cwd=ROOT,
        env=rack.cli.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    seen = json.loads(told.stdout)
    assert seen["stranger"] == seen["before"], "the stranger was to have the instance's pid"
    assert seen["after"] not in (None, seen["before"])
    assert seen["state"] == "ready"
    assert (seen["stranger_lives"], seen["signals"]) == (True, "")


def test_fault_04_child_that_exits_while_kill_is_under_way_makes_one_transition(rack: Rack) -> None:
    """The daemon stands still until both are due: the kill, and the end of a child that is dead already."""
    for name in EIGHT:
        rack.add(name, "--ignore-sigterm", stop_timeout_s=0.3)
    pids = rack.serve()
    daemon = rack.daemon()
    stop = rack.cli.start("stop", *EIGHT)
    for name in EIGHT:
        rack.until_passed(name, "stopping")
    os.kill(daemon, signal.SIGSTOP)
    try:
        for name in EIGHT[::2]:
            os.kill(pids[name], signal.SIGKILL)
        eventually(lambda: not any(is_alive(pids[name]) for name in EIGHT[::2]))
        until = time.monotonic() + 0.3
        eventually(lambda: time.monotonic() > until)  # their time to stop is over
    finally:
        os.kill(daemon, signal.SIGCONT)
    _, told = stop.communicate(timeout=30)
    assert stop.returncode == 0, told
    for name in EIGHT:
        assert rack.states(name) == ["starting", "ready", "stopping", "stopped"]
    rack.assert_calm()


def test_fault_05_child_that_ignores_term_is_killed(rack: Rack) -> None:
    rack.add("a", "--ignore-sigterm", stop_timeout_s=0.3)
    pid = rack.serve()["a"]
    stop = rack.cli("stop", "a")
    assert stop.returncode == 0, stop.stderr
    assert (rack.one("a")["state"], rack.one("a")["pid"], is_alive(pid)) == ("stopped", None, False)


def test_fault_06_eight_that_ignore_term_share_one_deadline(rack: Rack) -> None:
    """All are told before the first is killed: the deadlines run at the same time."""
    for name in EIGHT:
        rack.add(name, "--ignore-sigterm", stop_timeout_s=1)
    pids = rack.serve()
    stop = rack.cli("stop", *EIGHT)
    assert stop.returncode == 0, stop.stderr
    order = [record["new"] for record in rack.events() if record["new"] in ("stopping", "stopped")]
    assert order == ["stopping"] * 8 + ["stopped"] * 8
    assert not any(is_alive(pid) for pid in pids.values())


def test_fault_06_the_daemon_ends_eight_that_ignore_term_with_one_deadline(rack: Rack) -> None:
    for name in EIGHT:
        rack.add(name, "--ignore-sigterm", stop_timeout_s=1)
    rack.serve()
    daemon = rack.daemon()
    os.kill(daemon, signal.SIGTERM)
    eventually(lambda: not is_alive(daemon))
    kept = [json.loads(line) for line in Path(rack.cli.runtime, "history.jsonl").read_text().splitlines()]
    order = [record["new"] for record in kept if record["new"] in ("stopping", "stopped")]
    assert order == ["stopping"] * 8 + ["stopped"] * 8
    assert not any(rack.processes(name) for name in EIGHT)
