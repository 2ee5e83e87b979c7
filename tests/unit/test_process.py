import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infer_dev.host.process import pidfd
from infer_dev.host.process.pidfd import adopt
from infer_dev.host.process.stat import is_ended, rss_bytes, start_time, stat_fields
from infer_dev.host.process.sweep import MarkScan, sweep
from tests.conftest import eventually


async def ended(child: pidfd.Process) -> None:
    done = asyncio.Event()
    child.on_exit(done.set)
    await asyncio.wait_for(done.wait(), 10)


def spawn(tmp_path: Path, *argv: str) -> pidfd.Process:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        return pidfd.spawn(argv, env={"A": "b"}, cwd=str(tmp_path), output_fd=fd)
    finally:
        os.close(fd)


async def test_child_has_its_own_session_environment_and_output(tmp_path: Path) -> None:
    child = spawn(tmp_path, "/bin/sh", "-c", "pwd; env; exit 3")
    await ended(child)
    result = child.reap()
    assert (result, result.ok, result.code, str(result)) == (pidfd.Exit(status=3), False, 3, "exit status 3")
    out = (tmp_path / "out").read_text()
    assert str(tmp_path) in out
    assert "A=b" in out
    child.terminate()  # after the reaping: reaches nobody


async def test_signal_that_ended_it_is_named(tmp_path: Path) -> None:
    child = spawn(tmp_path, "/bin/sleep", "60")
    child.kill()
    await ended(child)
    result = child.reap()
    assert (result.code, str(result)) == (-9, "signal SIGKILL")


def test_exit_for_people() -> None:
    assert str(pidfd.Exit()) == "exit status unknown"
    assert str(pidfd.Exit(signal=63)) == "signal 63"
    assert pidfd.Exit().code is None


async def test_ended_but_unreaped_child_keeps_its_pid(tmp_path: Path) -> None:
    child = spawn(tmp_path, "/bin/true")
    await ended(child)
    assert start_time(child.pid) == child.start_time
    child.reap()
    assert start_time(child.pid) is None


async def test_sweep_ends_what_the_leader_left(tmp_path: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    child = spawn(tmp_path, "/bin/sh", "-c", f'{sys.executable} -c "{stubborn}" & exec sleep 60')
    async with asyncio.timeout(10):
        while "up" not in (tmp_path / "out").read_text():
            await asyncio.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    await ended(child)
    assert len(pidfd.group_members(child.pid)) == 1
    await asyncio.wait_for(sweep(child, "x", MarkScan(str(tmp_path)), grace_s=0.1), 10)
    assert pidfd.group_members(child.pid) == []
    child.reap()


async def test_missing_binary_and_folder_are_os_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spawn(tmp_path, "/no/such/binary")
    fd = os.open(tmp_path / "out", os.O_WRONLY)
    with pytest.raises(FileNotFoundError):
        pidfd.spawn(["/bin/true"], env={}, cwd=str(tmp_path / "gone"), output_fd=fd)
    os.close(fd)


def test_rss_and_start_time_of_nobody_are_none() -> None:
    assert rss_bytes(2**22 + 1) is None
    assert start_time(2**22 + 1) is None
    assert (rss_bytes(os.getpid()) or 0) > 1_000_000


async def test_start_time_survives_a_name_with_parentheses(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 ("
    odd.symlink_to("/bin/sleep")
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    child = pidfd.spawn([str(odd), "60"], env={}, cwd="/", output_fd=fd)
    os.close(fd)
    assert child.start_time is not None
    assert abs(child.start_time - (start_time(os.getpid()) or 0)) < 10_000_000
    child.kill()
    await ended(child)
    child.reap()


def test_process_that_lost_its_first_thread_lives() -> None:
    code = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start()"
    with subprocess.Popen([sys.executable, "-c", f"{code}; ctypes.CDLL(None).pthread_exit(None)"]) as one:
        try:
            eventually(lambda: stat_fields(one.pid)[0] == "Z")
            assert not is_ended(one.pid)
            adopted = adopt(one.pid, start_time(one.pid) or 0)
            assert adopted is not None
            adopted.let_go()
        finally:
            one.kill()
