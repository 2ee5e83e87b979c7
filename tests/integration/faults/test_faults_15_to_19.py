"""Faults 15 to 19: what a log can suffer, and what can be done to one."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.conftest import eventually, is_alive
from tests.integration.faults.rig import Rack, peak_bytes, share_of_cpu

MIB = 1 << 20
HUGE_LINE_BYTES = 50 * MIB


def _fill(folder: Path) -> Path:
    """Take all the space that is left on a file system; gives the file that has it."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return ballast
    raise AssertionError


def test_fault_15_full_log_disk_stops_no_server_and_the_log_goes_on_once_it_is_freed(
    small_disk: Path, rack: Rack
) -> None:
    log = small_disk / "a.log"
    rack.add("a", "--print-per-second", 100, log_file=str(log))
    pid = rack.serve()["a"]
    ballast = _fill(small_disk)
    eventually(lambda: os.statvfs(small_disk).f_bavail == 0)
    assert share_of_cpu(rack.daemon(), over_s=0.5) < 0.5
    assert (rack.one("a")["state"], rack.one("a")["pid"]) == ("ready", pid)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: rack.one("a")["pid"] not in (None, pid))
    again = rack.until("a", "ready")
    full = log.stat().st_size
    ballast.unlink()
    eventually(lambda: log.stat().st_size > full)
    assert (rack.one("a")["pid"], rack.one("a")["restarts"]) == (again["pid"], 1)
    rack.assert_calm()


def test_fault_15_full_disk_under_the_runtime_folder_too_keeps_no_daemon_from_adopting(
    small_disk: Path, rack: Rack
) -> None:
    rack.cli.runtime.symlink_to(small_disk)
    rack.cli.env["INFER_DEV_RUNTIME_DIR"] = str(small_disk)
    rack.cli.runtime = small_disk
    rack.add("a", log_file=str(small_disk / "a.log"))
    pid = rack.serve()["a"]
    ballast = _fill(small_disk)
    rack.kill_daemon()
    rack.successor()
    assert (rack.one("a")["pid"], rack.one("a")["adopted"]) == (pid, True)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: rack.one("a")["pid"] not in (None, pid))
    rack.until("a", "ready")
    ballast.unlink()


def test_fault_16_deleted_log_folder_is_made_again_at_the_next_start(rack: Rack) -> None:
    rack.add("a", "--log", "hello")
    pid = rack.serve()["a"]
    shutil.rmtree(rack.folder / "logs")
    assert rack.cli("logs", "a").returncode == 0
    assert (rack.one("a")["state"], is_alive(pid)) == ("ready", True)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: rack.log("a").count("hello") == 1)
    rack.until("a", "ready")
    rack.assert_calm()


def test_fault_16_log_folder_that_became_read_only_fails_the_next_start_with_the_reason(rack: Rack) -> None:
    logs = rack.folder / "logs"
    logs.mkdir()
    rack.add("a")
    rack.add("b", log_dir=str(rack.folder))
    before = rack.serve()
    subprocess.run(["mount", "--bind", str(logs), str(logs)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(logs)], check=True)
    try:
        assert rack.one("a")["state"] == "ready"
        os.kill(before["a"], signal.SIGKILL)
        failed = rack.until("a", "failed")
        assert failed["cause"] == "log-unwritable"
        assert f"cannot write {logs}/llama-server-a.log: Read-only file system" in failed["detail"]
        assert rack.one("b")["pid"] == before["b"]
    finally:
        subprocess.run(["umount", str(logs)], check=True)
    start = rack.cli("start", "a")
    assert start.returncode == 0, start.stderr


def test_fault_17_child_that_closes_its_output_costs_no_processor_time(rack: Rack) -> None:
    rack.add("a", "--close-stdout")
    rack.serve()
    eventually(lambda: os.readlink(f"/proc/{rack.one('a')['pid']}/fd/1") == "/dev/null")
    assert share_of_cpu(rack.daemon(), over_s=1) < 0.5
    assert rack.one("a")["state"] == "ready"


def test_fault_18_any_flood_of_output_leaves_the_daemon_small_and_answering(rack: Rack) -> None:
    """10,000 lines a second; a line of 50 MB; bytes that are no text: each read by a restart and by people."""
    rack.add("fast", "--print-per-second", 10_000)
    count = rack.folder / "count"
    huge = ("--print-huge-line", HUGE_LINE_BYTES, "--crash-until", count, 1)
    rack.add("huge", *huge, ready_timeout_s=60)
    rack.add("odd", "--print-garbage", "--crash-until", rack.folder / "odd-count", 1)
    rack.add("calm")
    rack.serve()
    daemon = rack.daemon()
    Path(f"/proc/{daemon}/clear_refs").write_text("5")  # the peak counts from here
    before = peak_bytes(daemon)
    eventually(lambda: rack.log("fast").count("\n") > 10_000)
    for name in ("fast", "huge", "odd"):
        os.kill(rack.one(name)["pid"], signal.SIGKILL)  # its log is read for the cause
        rack.until_passed(name, "ready", 2)
    assert "line" in rack.cli("logs", "fast", "-n", "3").stdout
    shown = rack.folder / "shown"
    assert rack.print_to(shown, "logs", "odd") > 2 * 256
    assert bytes(range(256)) in shown.read_bytes()
    assert rack.print_to(shown, "logs", "huge") > 3 * HUGE_LINE_BYTES
    rows = rack.client.get("/status?log_line=1")["instances"]
    assert all(len(json.dumps(one)) < 200_000 for one in rows)
    events = rack.cli("events")
    assert events.returncode == 0, events.stderr
    assert peak_bytes(daemon) - before < HUGE_LINE_BYTES / 2
    assert rack.one("calm")["restarts"] == 0
    rack.assert_calm()


def test_fault_19_log_truncated_or_moved_from_outside_goes_on(rack: Rack) -> None:
    rack.add("a", "--print-per-second", 50)
    pid = rack.serve()["a"]
    log = rack.folder / "logs" / "llama-server-a.log"
    follower = rack.cli.start("logs", "a", "-f")
    assert follower.stdout is not None
    latest = _number_after(follower.stdout.readline, 0)
    os.truncate(log, 0)
    latest = _number_after(follower.stdout.readline, latest + 20)
    assert "line" in rack.cli("logs", "a", "-n", "1").stdout
    log.rename(log.with_suffix(".1"))
    assert rack.one("a")["pid"] == pid
    assert "line" not in rack.cli("logs", "a").stdout
    os.kill(pid, signal.SIGKILL)
    eventually(log.exists)
    _number_after(follower.stdout.readline, 0, at_most=latest)  # numbers begin again: that is the new process
    follower.terminate()
    follower.communicate()
    assert (rack.until("a", "ready")["restarts"], rack.starts("a")) == (1, 1)
    rack.assert_calm()


def _number_after(readline, wanted: int, at_most: int | None = None) -> int:
    """Read lines until one with a number larger than `wanted` comes, or one not larger than `at_most`."""
    while True:
        words = readline().split()
        if len(words) > 1 and words[0] == "line":
            number = int(words[1])
            if number <= at_most if at_most is not None else number > wanted:
                return number
