"""Faults 33, 39 and 45: what still runs, but does not work; and the end of boot."""

import os
import signal
from collections.abc import Callable

from tests.conftest import eventually, is_alive
from tests.integration.faults.rig import Rack
from tests.parts.booted import Booted

Boots = Callable[..., Booted]


def test_fault_33_blocked_event_loop_is_noticed_told_with_its_stacks_and_its_daemon_replaced(
    rack: Rack, boots: Boots
) -> None:
    """It blocks where it would on a hanging disk: in opening a file, here a pipe that nobody reads."""
    booted = boots("sleep", "1000")
    rack.add("a", stop_timeout_s=1)
    rack.add("b")
    before = rack.serve()
    first = booted.daemon_pid()
    pipe = rack.cli.runtime / "instances" / "a.json.new"
    os.mkfifo(pipe)
    rack.ask("POST /instances/a/stop").close()  # a change, which is to be saved
    eventually(lambda: "most recent call first" in booted.output)
    pipe.unlink()
    assert "gives no sign of life" in booted.output
    assert "supervisor/state.py" in booted.output.partition("most recent call first")[2]
    eventually(lambda: booted.daemon_pid() not in (0, first))
    assert not is_alive(first)
    found = rack.until("b", "ready")
    assert (found["pid"], found["adopted"], found["restarts"]) == (before["b"], True, 0)
    assert rack.until("a", "ready")["pid"] == before["a"]  # its stop was not begun


def test_fault_39_server_whose_completions_fail_is_degraded_though_its_health_is_good(rack: Rack) -> None:
    faults = rack.folder / "faults"
    rack.add("a", "--faults", faults, canary_interval_s=0.5, degraded_timeout_s=0.2)
    rack.add("b")
    before = rack.serve()
    faults.write_text("completions-500")
    rack.until_passed("a", "degraded")
    faults.write_text("")
    told = next(record for record in rack.events() if record["new"] == "degraded")
    assert (told["cause"], "a completion of one token failed: HTTP 500" in told["detail"]) == ("wedged", True)
    eventually(lambda: rack.one("a")["pid"] not in (None, before["a"]))
    assert (rack.until("a", "ready")["restarts"], is_alive(before["a"])) == (1, False)
    assert rack.one("b")["pid"] == before["b"]


def test_fault_45_killed_boot_leaves_the_daemon_and_the_instances_at_work(rack: Rack, boots: Boots) -> None:
    booted = boots("sleep", "1000")
    rack.add("a")
    before = rack.serve()
    daemon = booted.daemon_pid()
    booted.signal(signal.SIGKILL)
    booted.wait()
    eventually(lambda: "boot is gone; this daemon goes on without it" in booted.output)
    assert rack.up().returncode == 0
    assert (rack.daemon(), rack.pids()) == (daemon, before)
    os.kill(before["a"], signal.SIGKILL)
    eventually(lambda: rack.one("a")["pid"] not in (None, before["a"]))
    rack.until("a", "ready")
    assert rack.cli("down").returncode == 0
    booted.clean_up()  # the command, which nobody ends now


def test_fault_45_boot_killed_as_pid_1_takes_everything_with_it(rack: Rack, boots: Boots) -> None:
    """The kernel sees to that; the folder it leaves is no hindrance to the container's next life."""
    booted = boots("sleep", "1000", how="pid-1")
    rack.add("a")
    rack.serve()
    booted.signal(signal.SIGKILL)
    booted.wait()
    eventually(lambda: booted.processes() == [])
    again = boots("sleep", "1000", how="pid-1")
    eventually(lambda: "earlier life" in again.output)
    assert rack.up().returncode == 0
    assert (rack.one("a")["state"], rack.starts("a")) == ("ready", 2)
