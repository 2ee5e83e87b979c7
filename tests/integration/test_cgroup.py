"""Control groups, where the daemon's own has been delegated to it: in a hierarchy of the kernel's own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infer_dev.host.process.cgroup import Cgroups
from tests.conftest import ROOT, STAND_IN, Cli, eventually, is_alive

RUNAWAY = """
import os, time
time.sleep(0.1)
if os.fork() == 0:
    os.setsid()
    os.execve("/bin/sleep", ["sleep", "600"], {})
"""


@pytest.fixture
def delegated(tmp_path: Path) -> Iterator[Path]:
    """A group that is ours to divide; made, and marked as systemd does it."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    at = next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)
    mounted = None
    if at is None:
        at = mounted = tmp_path / "cgroup2"
        at.mkdir()
        if subprocess.run(["mount", "-t", "cgroup2", "none", at], check=False, capture_output=True).returncode:
            pytest.skip("no cgroup2 file system can be had here")
    group = at / f"infer-dev-test-{os.getpid()}"
    try:
        group.mkdir(exist_ok=True)
        os.setxattr(group, "trusted.delegate", b"1")
    except OSError as err:
        pytest.skip(f"no control group can be made here: {err}")
    yield group
    for folder in [*group.iterdir(), group]:
        if folder.is_dir():
            eventually(lambda folder=folder: _removed(folder))
    if mounted is not None:
        subprocess.run(["umount", mounted], check=True)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def pids_of(group: Path) -> list[int]:
    return [int(line) for line in (group / "cgroup.procs").read_text().split()]


def test_descendant_without_mark_and_session_is_ended_with_its_instance(
    cli: Cli, delegated: Path, tmp_path: Path, free_port
) -> None:
    server = tmp_path / "llama-server"
    server.write_text(f"#!/bin/sh\n{sys.executable} -c '{RUNAWAY}'\nexec {STAND_IN} \"$@\"\n")
    server.chmod(0o755)
    config = tmp_path / "rack.toml"
    config.write_text(
        f'[master]\nllama_cpp_path = "{server}"\n[instance.control]\nlog_dir = "{tmp_path}"\n'
        f'[instance.a.server]\nmodel = "m"\nport = {free_port()}\n'
    )
    inside = subprocess.run(
        [
            "sh",
            "-c",
            f"echo $$ > {delegated}/cgroup.procs; exec {sys.executable} -m infer_dev up --no-check {config}",
        ],
        cwd=ROOT,
        env=cli.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert inside.returncode == 0, inside.stderr
    (group,) = [folder for folder in delegated.iterdir() if folder.is_dir()]
    leader = cli.status()["a"]["pid"]
    (runaway,) = eventually(lambda: set(pids_of(group)) - {leader})
    assert Path(f"/proc/{runaway}/environ").read_bytes() == b""
    assert os.getsid(runaway) == runaway
    assert cli("stop", "a").returncode == 0
    assert not is_alive(runaway)
    assert pids_of(group) == []
    cli("down")
    eventually(lambda: not group.exists())


def test_kill_ends_all_of_a_group_at_once(delegated: Path) -> None:
    groups = Cgroups(str(delegated), "/run/x")
    sleepers = [subprocess.Popen(["sleep", "600"]) for _ in range(3)]
    for sleeper in sleepers:
        groups.join("a", sleeper.pid)
    assert sorted(groups.pids("a")) == sorted(sleeper.pid for sleeper in sleepers)
    groups.kill("a")
    assert [sleeper.wait(10) for sleeper in sleepers] == [-9, -9, -9]
    groups.remove("a")
    assert groups.pids("a") == []


def test_no_group_is_made_where_nobody_delegated(cli: Cli, tmp_path: Path, free_port) -> None:
    config = tmp_path / "rack.toml"
    config.write_text(
        f'[master]\nllama_cpp_path = "{STAND_IN}"\n[instance.control]\nlog_dir = "{tmp_path}"\n'
        f'[instance.a.server]\nmodel = "m"\nport = {free_port()}\n'
    )
    assert cli("up", config).returncode == 0
    daemon, instance = cli.daemon_pid(), cli.status()["a"]["pid"]
    assert Path(f"/proc/{daemon}/cgroup").read_text() == Path(f"/proc/{instance}/cgroup").read_text()
