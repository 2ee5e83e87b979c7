"""Faults 7 to 11: processes that cannot be ended at once, and what an ended one leaves."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infer_dev.host.process.stat import state_of
from tests.conftest import eventually, is_alive, marked_processes
from tests.integration.faults.rig import Rack

BOMB = 150


@pytest.fixture
def freezable(tmp_path: Path) -> Iterator[Path]:
    """A file system that can be frozen: who writes to it meanwhile sleeps uninterruptibly, and cannot be killed."""
    image, folder = tmp_path / "disk.img", tmp_path / "freezable"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(folder)], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_fault_07_child_in_uninterruptible_sleep_is_told_of_and_its_gpu_kept_free(
    rack: Rack, freezable: Path
) -> None:
    rack.add("a", "--write-to", freezable / "file", gpu_ids="0", stop_timeout_s=0.2)
    rack.add("same", gpu_ids="0,1", autostart=False)
    rack.add("other", gpu_ids="1", autostart=False)
    pid = rack.serve()["a"]
    eventually((freezable / "file").exists)
    subprocess.run(["fsfreeze", "--freeze", str(freezable)], check=True)
    try:
        eventually(lambda: state_of(pid) == "D")
        stop = rack.cli.start("stop", "a")
        rack.until("a", "stopping")
        eventually(lambda: f"pid {pid} is in uninterruptible sleep" in rack.one("a")["note"])
        starts = [rack.cli.start("start", name) for name in ("same", "other")]
        rack.until("other", "ready")
        _, told = stop.communicate(timeout=30)
        assert stop.returncode == 75
        assert f"cannot stop a (pid {pid})" in told
        assert "uninterruptible sleep" in told
        waits = rack.one("same")
        assert (waits["state"], waits["pid"], waits["note"]) == ("starting", None, "waits for a")
        assert (rack.one("a")["state"], rack.starts("same")) == ("stopping", 0)
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(freezable)], check=True)
    rack.until("a", "stopped")
    rack.until("same", "ready")
    assert [start.wait(timeout=30) for start in starts] == [0, 0]
    for start in starts:
        start.communicate()


def test_fault_07_child_of_which_one_thread_sleeps_uninterruptibly_is_adopted_as_such(
    rack: Rack, freezable: Path
) -> None:
    """Its first thread ends, and it looks like a zombie; what it has of the GPU is still taken."""
    rack.add("a", "--thread-write-to", freezable / "file", gpu_ids="0", stop_timeout_s=0.2)
    rack.add("same", gpu_ids="0", autostart=False)
    pid = rack.serve()["a"]
    eventually((freezable / "file").exists)
    subprocess.run(["fsfreeze", "--freeze", str(freezable)], check=True)
    try:
        stop = rack.cli.start("stop", "a")
        eventually(lambda: f"pid {pid} is in uninterruptible sleep" in rack.one("a")["note"])
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "what this test is about"
        rack.kill_daemon()
        stop.communicate()
        rack.successor()
        found = rack.until("a", "stopping")
        assert (found["pid"], found["adopted"]) == (pid, True)
        start = rack.cli.start("start", "same")
        rack.until("same", "starting")
        assert (rack.one("same")["note"], rack.starts("same")) == ("waits for a", 0)
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(freezable)], check=True)
    rack.until("a", "stopped")
    rack.until("same", "ready")
    assert (start.communicate(), start.returncode)[1] == 0


def test_fault_08_child_stopped_by_sigstop_is_continued_to_end(rack: Rack) -> None:
    rack.add("a", stop_timeout_s=600)  # ends by TERM alone, or this test by its deadline
    pid = rack.serve()["a"]
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: state_of(pid) == "T")
    stop = rack.cli("stop", "a")
    assert stop.returncode == 0, stop.stderr
    assert not is_alive(pid)


@pytest.mark.parametrize("daemon", ["lives", "was killed too"])
def test_fault_09_group_of_an_ended_leader_is_killed_before_the_next_start(rack: Rack, daemon: str) -> None:
    _child_is_gone_before_the_next_start(rack, "--spawn-child", kill_daemon=daemon != "lives")


@pytest.mark.parametrize("daemon", ["lives", "was killed too"])
def test_fault_10_grandchild_with_a_session_of_its_own_is_swept_before_the_next_start(
    rack: Rack, daemon: str
) -> None:
    _child_is_gone_before_the_next_start(rack, "--setsid-child", kill_daemon=daemon != "lives")


def _child_is_gone_before_the_next_start(rack: Rack, switch: str, *, kill_daemon: bool) -> None:
    rack.add("a", switch)
    pid = rack.serve()["a"]
    child = rack.child_pid("a")
    assert is_alive(child)
    if kill_daemon:
        rack.kill_daemon()
    os.kill(pid, signal.SIGKILL)
    if kill_daemon:
        eventually(lambda: not is_alive(pid))
        rack.successor()
    rack.until("a", "stopping")
    assert rack.starts("a") == 1
    eventually(lambda: rack.starts("a") == 2)
    assert not is_alive(child)
    again = rack.until("a", "ready")
    assert (again["restarts"], rack.child_pid("a") != child) == (1, True)
    rack.assert_calm()


def test_fault_11_fork_bomb_is_swept_while_the_daemon_answers(rack: Rack) -> None:
    rack.add("bomb", "--fork-bomb", BOMB, stop_timeout_s=0.3)
    rack.add("good")
    before = rack.serve()
    eventually(lambda: len(rack.processes("bomb")) >= BOMB)
    stop = rack.cli.start("stop", "bomb")
    answers = 0
    while stop.poll() is None:
        assert rack.one("good")["state"] == "ready"
        answers += 1
    _, told = stop.communicate()
    assert (stop.returncode, answers > 0) == (0, True), told
    assert (rack.processes("bomb"), rack.one("bomb")["state"]) == ([], "stopped")
    assert rack.pids()["good"] == before["good"]
    assert marked_processes(rack.cli.runtime) == [before["good"]]
    rack.assert_calm()
