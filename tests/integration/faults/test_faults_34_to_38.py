"""Faults 34 to 38: memory runs out, and the daemon's own life."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import eventually, is_alive, marked_processes
from tests.integration.faults.rig import Rack, run_in_cgroup
from tests.parts.booted import Booted, children, stat_fields

MIB = 1 << 20


def _oom_score_adj(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.real
def test_fault_34_out_of_memory_takes_the_instance_and_is_told_as_the_cause(
    memory_group: Path, real_rack: Rack
) -> None:
    """As in a container with a limit: the daemon is in it too. The context of 4 million tokens takes 2 GiB."""
    rack = real_rack
    limit = "memory.limit_in_bytes" if (memory_group / "memory.limit_in_bytes").exists() else "memory.max"
    rack.add("greedy", server={"ctx_size": 4 << 20, "fit": "off"}, max_restarts=0)
    rack.add("small", server={"ctx_size": 512})
    rack.save()
    (memory_group / limit).write_text(str(512 * MIB))
    up = run_in_cgroup(rack.cli, memory_group, "up", rack.file)
    assert up.returncode == 1, up.stderr
    greedy, small = rack.one("greedy"), rack.one("small")
    assert (greedy["state"], greedy["cause"], greedy["exit_status"]) == ("failed", "out-of-memory-host", -9)
    assert "out-of-memory killer" in greedy["detail"]
    assert "out-of-memory-host" in up.stderr
    assert (small["state"], small["restarts"]) == ("ready", 0)
    assert rack.daemon_log().count(" listens on ") == 1, "the daemon was to live on"


def test_fault_34_kernel_takes_an_instance_before_the_daemon(rack: Rack) -> None:
    rack.add("a")
    pid = rack.serve()["a"]
    daemon = rack.daemon()
    assert _oom_score_adj(daemon) <= _oom_score_adj(os.getpid()) < _oom_score_adj(pid)
    rack.kill_daemon()  # and if it takes the daemon all the same
    rack.successor()
    assert (rack.one("a")["pid"], _oom_score_adj(rack.daemon())) == (pid, _oom_score_adj(daemon))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: rack.one("a")["pid"] not in (None, pid))
    eventually(lambda: _oom_score_adj(rack.one("a")["pid"]) > _oom_score_adj(os.getpid()))


FORK_MANY = """
import os, time
if os.fork() == 0:
    for _ in range(10000):
        if os.fork() == 0:
            os._exit(0)
    os.write(1, b"forked\\n")
    os._exit(0)
time.sleep(1000)
"""


def test_fault_35_ten_thousand_orphans_are_reaped_and_the_instances_go_on(
    rack: Rack, boots: Callable[..., Booted]
) -> None:
    booted = boots(sys.executable, "-S", "-E", "-c", FORK_MANY, how="pid-1")
    rack.add("a")
    before = rack.serve()
    eventually(lambda: "forked" in booted.output)
    # the one that forked them is a child of the command's, which never reaps it
    eventually(lambda: len(children(booted.pid())) == 2)
    assert all(stat_fields(pid)[0] != "Z" for pid in children(booted.pid()))
    assert (rack.pids(), rack.one("a")["state"], rack.one("a")["restarts"]) == (before, "ready", 0)


def test_fault_36_term_during_a_start_spawns_nothing_more(rack: Rack) -> None:
    rack.add("first", "--ready-when", rack.folder / "never")
    rack.add("second", start_after=["first"])
    rack.add("third", start_after=["second"])
    rack.save()
    up = rack.cli.start("up", rack.file)
    rack.until("first", "starting")
    daemon = rack.daemon()
    os.kill(daemon, signal.SIGTERM)
    eventually(lambda: not is_alive(daemon))
    _, told = up.communicate(timeout=30)
    assert up.returncode != 0
    assert "cannot" in told
    assert [rack.starts(name) for name in ("first", "second", "third")] == [1, 0, 0]
    assert marked_processes(rack.cli.runtime) == []


@pytest.mark.parametrize("moment", ["daemon.lock", "control.sock", "instances/a.json", "../logs/llama-server-h.log"])
def test_fault_36_term_at_any_moment_of_a_start_leaves_nothing(rack: Rack, moment: str) -> None:
    for name in "abcdefgh":
        rack.add(name)
    rack.save()
    up = rack.cli.start("up", rack.file)
    eventually((rack.cli.runtime / moment).exists)
    daemon = int(str(eventually(rack.cli.daemon_pid)))
    os.kill(daemon, signal.SIGTERM)
    eventually(lambda: not is_alive(daemon))
    _, told = up.communicate(timeout=30)
    assert up.returncode != 0, told
    assert marked_processes(rack.cli.runtime) == []
    assert "Traceback" not in told + rack.daemon_log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "Ctrl-C"])
def test_fault_37_second_signal_while_stopping_kills_at_once_and_a_third_does_nothing(
    rack: Rack, number: signal.Signals
) -> None:
    rack.add("a", "--ignore-sigterm", stop_timeout_s=600)
    rack.save()
    daemon = rack.cli.start("daemon")
    eventually((rack.cli.runtime / "control.sock").exists)
    pid = rack.serve()["a"]
    daemon.send_signal(number)
    rack.until("a", "stopping")
    assert is_alive(pid)
    daemon.send_signal(number)
    daemon.send_signal(number)
    _, told = daemon.communicate(timeout=30)
    assert (daemon.returncode, is_alive(pid)) == (0, False), told
    assert "Traceback" not in told
    assert told.count("stopping -> stopped") == 1
    assert sorted(entry.name for entry in rack.cli.runtime.iterdir()) == ["history.jsonl"]


def test_fault_37_second_term_to_boot_ends_all_at_once(rack: Rack, boots: Callable[..., Booted]) -> None:
    booted = boots("sleep", "1000")
    rack.add("a", "--ignore-sigterm", stop_timeout_s=600)
    pid = rack.serve()["a"]
    booted.signal(signal.SIGTERM)
    rack.until("a", "stopping")
    booted.signal(signal.SIGTERM)
    booted.wait()
    assert (is_alive(pid), booted.processes()) == (False, [])


@pytest.mark.parametrize("what", ["socket", "folder"])
def test_fault_38_what_is_deleted_under_a_running_daemon_is_made_again(rack: Rack, what: str) -> None:
    rack.add("a")
    rack.add("b")
    before = rack.serve()
    daemon = rack.daemon()
    if what == "socket":
        (rack.cli.runtime / "control.sock").unlink()
    else:
        shutil.rmtree(rack.cli.runtime)
    eventually((rack.cli.runtime / "control.sock").exists)
    assert rack.up().returncode == 0
    assert (rack.daemon(), rack.pids()) == (daemon, before)
    second = rack.cli("daemon")
    assert second.returncode == 69, "its lock was to hold all the time"
    rack.kill_daemon()
    rack.successor()
    assert (rack.pids(), rack.all()["a"]["adopted"]) == (before, True)


def test_fault_38_no_second_daemon_takes_over_while_the_folder_is_gone(rack: Rack) -> None:
    rack.add("a")
    before = rack.serve()
    daemon = rack.daemon()
    os.kill(daemon, signal.SIGSTOP)  # it cannot heal what is removed
    try:
        shutil.rmtree(rack.cli.runtime)
        second = rack.cli("daemon")
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert second.returncode == 69, second.stderr
    eventually((rack.cli.runtime / "control.sock").exists)
    assert (rack.daemon(), rack.pids()) == (daemon, before)
