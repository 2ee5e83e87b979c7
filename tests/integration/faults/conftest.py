"""Fixtures of the fault suite."""

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli, Parts, eventually, is_alive
from tests.integration.faults.rig import Rack
from tests.parts.booted import Booted

NUMBERS = itertools.count()


@pytest.fixture
def rack(cli: Cli, tmp_path: Path, free_port: Callable[[], int]) -> Rack:
    """Stand-ins behind the real command line."""
    return Rack(cli, tmp_path, free_port)


@pytest.fixture
def real_rack(rack: Rack, parts: Parts) -> Rack:
    """The real llama-server with the small model."""
    rack.server, rack.model = parts.server, parts.model
    return rack


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own. To be asked for before `rack`, which must be down before it goes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def pids_group() -> Iterator[Path]:
    """A cgroup that can limit the number of processes. To be asked for before `rack`."""
    yield from _cgroup("pids")


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A cgroup that can limit memory. To be asked for before `rack`."""
    yield from _cgroup("memory")


@pytest.fixture
def boots(rack: Rack, tmp_path: Path) -> Iterator[Callable[..., Booted]]:
    """Starts boot with a daemon in the rack's runtime directory, quick to notice; ends what it leaves."""
    made: list[Booted] = []

    def one(*command: str, how: str = "plain") -> Booted:
        limits = {"silent_s": 2.0, "unwatched_s": 0.5}
        made.append(Booted(tmp_path, *command, how=how, parts={"limits": limits}))
        eventually((rack.cli.runtime / "control.sock").exists)
        return made[-1]

    yield one
    living = [booted for booted in made if booted.wrapper.poll() is None]
    for booted in living:
        booted.signal(signal.SIGTERM)
        booted.wait()
    left = [pid for booted in made for pid in booted.clean_up() if is_alive(pid)]
    assert not left or len(living) < len(made), f"processes left behind: {left}"


def _cgroup(controller: str) -> Iterator[Path]:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        (root / "cgroup.subtree_control").write_text(f"+{controller}")
    else:
        root /= controller
    group = root / f"infer-dev-test-{os.getpid()}-{next(NUMBERS)}"
    group.mkdir()
    yield group
    eventually(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()
