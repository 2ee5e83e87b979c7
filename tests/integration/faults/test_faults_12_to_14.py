"""Faults 12 to 14: processes that cannot be started, or not for long."""

import os
import re
import resource
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import STAND_IN, eventually
from tests.integration.faults.rig import Rack, lowest_free_descriptor


def test_fault_12_crash_loop_is_delayed_and_given_up_and_others_go_on(rack: Rack) -> None:
    rack.add("bad", "--crash-on-start", "--exit-code", 3, max_restarts=2)
    rack.add("good")
    up = rack.up()
    assert up.returncode == 1
    assert "bad failed" in up.stderr
    bad, good = rack.one("bad"), rack.one("good")
    assert (bad["state"], bad["exit_status"], bad["pid"]) == ("failed", 3, None)
    assert "given up after 2 restarts" in bad["detail"]
    assert rack.states("bad") == ["starting", "backoff", "starting", "backoff", "starting", "failed"]
    assert (good["state"], good["restarts"], rack.starts("bad")) == ("ready", 0, 3)


def _remove(server: Path) -> None:
    server.unlink()


def _forbid(server: Path) -> None:
    server.chmod(0o644)


def _replace_by_text(server: Path) -> None:
    server.write_text("this is no program\n")


def _replace_by_another_architecture(server: Path) -> None:
    server.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + (0xF3).to_bytes(2, "little"))


BROKEN = (
    (_remove, "No such file"),
    (_forbid, "Permission denied"),
    (_replace_by_text, "Exec format error"),
    (_replace_by_another_architecture, "Exec format error"),
)


def test_fault_13_unusable_binary_fails_with_the_reason_and_is_not_tried_again(rack: Rack) -> None:
    server = rack.folder / "llama-server"
    rack.server = str(server)
    rack.add("a")
    for count, (damage, reason) in enumerate(BROKEN, 1):
        shutil.copy(STAND_IN, server)
        pid = rack.serve()["a"]
        damage(server)
        os.kill(pid, signal.SIGKILL)
        failed = rack.until("a", "failed")
        assert (failed["cause"], failed["pid"], rack.states("a").count("failed")) == ("binary-unusable", None, count)
        assert re.search(rf"cannot start {server}: .*{reason}", failed["detail"])
        server.unlink(missing_ok=True)
    assert "backoff" not in rack.states("a")


@pytest.mark.real
def test_fault_13_missing_library_fails_with_its_name_and_is_not_tried_again(real_rack: Rack) -> None:
    rack = real_rack
    bundle, ours = Path(rack.server).resolve().parents[1], rack.folder / "llama-cpp"
    shutil.copytree(bundle, ours, copy_function=os.symlink)
    (ours / "bin" / "llama-server").unlink()
    shutil.copy(rack.server, ours / "bin" / "llama-server")
    rack.server = str(ours / "bin" / "llama-server")
    rack.add("a")
    pid = rack.serve()["a"]
    (ours / "bin" / "libllama.so.0").unlink()
    os.kill(pid, signal.SIGKILL)
    failed = rack.until("a", "failed")
    assert (failed["cause"], failed["exit_status"]) == ("missing-library", 127)
    assert "libllama.so.0" in "\n".join(failed["log_tail"])
    assert rack.starts("a") == 2


def test_fault_14_lack_of_descriptors_at_a_start_is_waited_out_without_limit(rack: Rack) -> None:
    rack.add("a", max_restarts=1)
    pid = rack.serve()["a"]
    daemon = rack.daemon()
    spare = lowest_free_descriptor(daemon) + 1  # one for a client, none for a start
    old = resource.prlimit(daemon, resource.RLIMIT_NOFILE, (spare, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    os.kill(pid, signal.SIGKILL)
    rack.until_passed("a", "backoff", 3)
    assert "Too many open files" in rack.one("a")["detail"]
    resource.prlimit(daemon, resource.RLIMIT_NOFILE, old)
    rack.until("a", "ready")
    assert rack.leaders("a") == [rack.one("a")["pid"]]
    rack.assert_calm()


def test_fault_14_lack_of_processes_at_a_start_is_waited_out_without_limit(pids_group: Path, rack: Rack) -> None:
    rack.add("a", max_restarts=1)
    rack.add("other")
    before = rack.serve()
    (pids_group / "cgroup.procs").write_text(str(rack.daemon()))
    limit = pids_group / "pids.max"
    limit.write_text((pids_group / "pids.current").read_text())
    os.kill(before["a"], signal.SIGKILL)
    rack.until_passed("a", "backoff", 3)
    assert "Resource temporarily unavailable" in rack.one("a")["detail"]
    assert rack.one("other")["pid"] == before["other"]
    limit.write_text("max")
    rack.until("a", "ready")
    eventually(lambda: rack.leaders("a") == [rack.one("a")["pid"]])
    rack.assert_calm()
