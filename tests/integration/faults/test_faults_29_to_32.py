"""Faults 29 to 32: timers, slow answers, and stops that race."""

import os
import signal

import pytest

from tests.conftest import eventually, is_alive
from tests.integration.faults.rig import Rack

QUIET_S = 3.0  # how long a second `up` may take before the timer that it is to take away


@pytest.mark.parametrize("state", ["backoff", "starting"])
def test_fault_29_timer_of_a_removed_instance_is_gone(rack: Rack, state: str) -> None:
    """`later` waits for the same length of time from a later moment on: when its time has come, that of `a` had."""
    if state == "backoff":
        fault, control = "--crash-on-start", {"backoff_s": QUIET_S, "backoff_max_s": QUIET_S}
    else:
        fault, control = "--hang", {"ready_timeout_s": QUIET_S, "max_restarts": 0}
    rack.add("kept")
    rack.add("a", fault, **control)
    rack.up("--no-wait")
    rack.until("a", state)
    del rack.instances["a"]
    rack.add("later", fault, **control)
    rack.up("--no-wait")
    rack.until_passed("later", "starting" if state == "backoff" else "failed", 2 if state == "backoff" else 1)
    assert "a" not in rack.all()
    told = rack.states("a")
    assert told == (["starting", "backoff", "stopped"] if state == "backoff" else ["starting", "stopping", "stopped"])
    assert (rack.starts("a"), rack.processes("a")) == (1, [])
    rack.assert_calm()


def test_fault_30_health_that_drips_is_given_up_as_a_whole_and_asked_again(rack: Rack) -> None:
    """Without a deadline for the whole answer the first one would be read for ever."""
    rack.add("a", "--health-drip-first", 1)
    rack.serve()
    assert rack.states("a") == ["starting", "ready"]


def test_fault_31_long_load_is_not_ended_before_its_own_timeout(rack: Rack) -> None:
    """Both answer 503; `quick` may do so for a second, `slow` for as long as the default says: 15 minutes."""
    rack.add("slow", "--ready-when", rack.folder / "loaded")
    rack.add("quick", "--ready-when", rack.folder / "never", ready_timeout_s=1, max_restarts=0)
    rack.up("--no-wait")
    failed = rack.until("quick", "failed")
    assert (failed["cause"], rack.states("quick")) == ("ready-timeout", ["starting", "stopping", "failed"])
    # The timeout counts from before the process is started, the record from when that is done: ms apart, under load.
    assert next(record["after_s"] for record in rack.events() if record["new"] == "stopping") >= 0.9
    assert rack.one("slow")["state"] == "starting"
    (rack.folder / "loaded").touch()
    rack.until("slow", "ready")
    assert (rack.states("slow"), rack.one("slow")["restarts"]) == (["starting", "ready"], 0)


def test_fault_32_stop_wins_over_the_first_answer_of_readiness(rack: Rack) -> None:
    """The daemon stands still until both are there: the server that has become ready, and the stop."""
    rack.add("a", "--ready-when", rack.folder / "loaded", autostart=False)
    rack.serve()
    daemon = rack.daemon()
    for _ in range(5):
        (rack.folder / "loaded").unlink(missing_ok=True)
        rack.client.post("/instances/a/start")
        pid = rack.until("a", "starting")["pid"]
        eventually(lambda: "listening" in rack.log("a").rpartition("==== ")[2])
        os.kill(daemon, signal.SIGSTOP)
        try:
            (rack.folder / "loaded").touch()
            with rack.ask("POST /instances/a/stop") as asked:
                os.kill(daemon, signal.SIGCONT)
                assert b" 200 " in asked.recv(65536)
        finally:
            os.kill(daemon, signal.SIGCONT)
        assert (rack.one("a")["state"], is_alive(pid)) == ("stopped", False)
        after_stop = rack.states("a")[::-1].index("stopping")
        assert after_stop == 1, rack.states("a")
    rack.assert_calm()
