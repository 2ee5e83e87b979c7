"""Faults 20 to 22: time jumps, time stands still, and what was saved is damaged."""

import json
import os
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import ROOT, eventually, is_alive
from tests.integration.faults.rig import Rack

YEAR_S = 31_536_000
LONGEST_GAP_S = 5.0  # `supervisor.clock`: a longer stretch is one in which the daemon did not run


@pytest.mark.parametrize("shift_s", [YEAR_S, -YEAR_S], ids=["a year ahead", "a year back"])
def test_fault_20_jump_of_the_wall_clock_restarts_nothing_and_delays_nothing(rack: Rack, shift_s: int) -> None:
    library, shift = rack.folder / "wall_clock.so", rack.folder / "shift"
    source = ROOT / "tests" / "parts" / "wall_clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    rack.add("serving")
    rack.add("loading", "--ready-when", rack.folder / "loaded", ready_timeout_s=600)
    # 0.5 s between two restarts: the one that is due after the jump must neither be skipped nor come at once.
    rack.add("failing", "--crash-on-start", max_restarts=3, backoff_s=0.5, backoff_max_s=0.5)
    rack.up("--no-wait", LD_PRELOAD=str(library), WALL_CLOCK_FILE=str(shift))
    before = {
        name: rack.until(name, state)["pid"] for name, state in {"serving": "ready", "loading": "starting"}.items()
    }
    rack.until_passed("failing", "backoff")
    shift.write_text(str(shift_s))
    failed = rack.until("failing", "failed")
    assert failed["restarts"] == 3
    times = [datetime.fromisoformat(record["time"]).timestamp() for record in rack.events()]
    assert abs(times[-1] - times[0] - shift_s) < YEAR_S / 2, "the clock of the daemon was to jump"
    waits = [record["after_s"] for record in rack.events() if record["old"] == "backoff"]
    assert len(waits) == 3
    assert all(0.2 < wait < YEAR_S / 2 for wait in waits)
    assert rack.one("serving")["uptime_s"] < YEAR_S / 2
    (rack.folder / "loaded").touch()
    rack.until("loading", "ready")
    assert {name: rack.one(name)["pid"] for name in before} == before
    assert not [name for name in before if "stopping" in rack.states(name)]


def test_fault_21_everything_suspended_for_longer_than_a_load_may_take_kills_nothing(rack: Rack) -> None:
    """Some seconds show what sixty do: the clock leaves out whatever is longer than LONGEST_GAP_S."""
    rack.add("loading", "--ready-when", rack.folder / "loaded", ready_timeout_s=6)
    rack.add("serving", degraded_timeout_s=1)
    rack.up("--no-wait")
    rack.until("serving", "ready")
    all_of_it = [rack.daemon(), *rack.pids().values()]
    for pid in all_of_it:
        os.kill(pid, signal.SIGSTOP)
    try:
        until = time.monotonic() + LONGEST_GAP_S + 1.5
        eventually(lambda: time.monotonic() > until)
    finally:
        for pid in all_of_it:
            os.kill(pid, signal.SIGCONT)
    assert {rack.one("loading")["state"] for _ in range(20)} == {"starting"}  # while the loop goes round
    (rack.folder / "loaded").touch()
    rack.until("loading", "ready")
    assert rack.states("loading") == ["starting", "ready"]
    assert rack.states("serving") == ["starting", "ready"]
    assert [rack.daemon(), *rack.pids().values()] == all_of_it


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _random_bytes(path: Path) -> None:
    path.write_bytes(bytes((number * 197 + 91) % 256 for number in range(500)))


def _other_json(path: Path) -> None:
    path.write_text('[{"a": [1, null, {"b": "c"}]}]')


def _newer_version(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1000}))


def _wrong_types(path: Path) -> None:
    kept = json.loads(path.read_text())
    path.write_text(
        json.dumps({"format": kept["format"], "life_id": kept["life_id"], "spec": 7, "sources": {"a": 1}})
    )


DAMAGES = (_truncate, _empty, _random_bytes, _other_json, _newer_version, _wrong_types)


@pytest.mark.parametrize("name", ["instances/a.json", "sources.json"])
def test_fault_22_damaged_state_is_set_aside_and_leads_to_no_second_copy(rack: Rack, name: str) -> None:
    rack.add("a")
    rack.add("b")
    before = rack.serve()
    path = rack.cli.runtime / name
    aside = path.with_name(f"{path.name}.damaged")
    for count, damage in enumerate(DAMAGES, 1):
        rack.kill_daemon()
        damage(path)
        damaged = path.read_bytes()
        rack.successor()
        assert {one: rack.until(one, "ready")["pid"] for one in before} == before
        assert rack.daemon_log().count(f"cannot use the saved state {path}: ") == count
        assert aside.read_bytes() == damaged
        up = rack.up()
        assert (up.returncode, rack.pids()) == (0, before), up.stderr
        assert {one: rack.leaders(one) for one in before} == {one: [pid] for one, pid in before.items()}


def test_fault_22_damaged_state_of_a_stopped_instance_starts_nothing(rack: Rack) -> None:
    rack.add("a")
    rack.add("b")
    before = rack.serve()
    rack.cli("stop", "a")
    rack.kill_daemon()
    _truncate(rack.cli.runtime / "instances" / "a.json")
    rack.successor()
    assert rack.until("b", "ready")["pid"] == before["b"]
    assert rack.processes("a") == []


def test_fault_22_state_of_another_life_of_the_container_starts_nothing(rack: Rack) -> None:
    """As after a restart of the container: the folder is still there, the processes are not, pids begin again."""
    rack.add("a")
    rack.add("b")
    before = rack.serve()
    rack.kill_daemon()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(is_alive(pid) for pid in before.values()))
    for path in [*(rack.cli.runtime / "instances").iterdir(), rack.cli.runtime / "sources.json"]:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"life_id": "another:1"}))
    rack.successor()
    assert rack.all() == {}
    assert "earlier life" in rack.daemon_log()
    assert rack.up().returncode == 0
    assert {name: rack.starts(name) for name in before} == {"a": 2, "b": 2}
