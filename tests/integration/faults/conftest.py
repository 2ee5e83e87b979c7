"""Fixtures of the fault suite."""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli, Parts, eventually
from tests.integration.faults.rig import Rack

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
