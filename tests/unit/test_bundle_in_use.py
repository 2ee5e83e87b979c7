"""What is known of the processes that use a version, and what of those of other users."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infer_dev.cli.bundle import show
from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.in_use import look
from infer_dev.llama_cpp.bundle.install import install
from infer_dev.llama_cpp.bundle.prefix import Prefix
from infer_dev.llama_cpp.bundle.store import prune, remove
from tests.parts.bundles import small

NOBODY = 65534
RUNS = '#!/bin/sh\n[ "$1" = --version ] && echo "version: {number} (x)" && exit\nread line\n'


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """What is inside may do what this user may: root's powers are gone with the effective user."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


class Shared:
    """A prefix of another user than root, with two versions; root runs a server of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = Prefix(str(folder / "prefix"))
        archives = [small(folder / f"{number}.tgz", number, server=RUNS.format(number=number)) for number in (1, 2)]
        with as_nobody():
            for archive in archives:
                install(str(archive), self.prefix)
        self.current, self.old = self.prefix.all()

    @contextlib.contextmanager
    def running(self, *argv: str, executable: str | None = None, cwd: str = "/") -> Iterator[int]:
        with subprocess.Popen(argv, executable=executable, cwd=cwd, stdin=subprocess.PIPE) as process:
            yield process.pid
            process.communicate(b"\n")


@pytest.fixture
def shared() -> Iterator[Shared]:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        yield Shared(Path(folder))


def test_version_that_another_users_process_may_use_is_not_deleted(shared, capsys):
    said: list[str] = []
    with shared.running(shared.prefix.server) as pid, as_nobody():
        assert look(shared.prefix).untold == [pid]
        with pytest.raises(BundleError, match=rf"another user's process may use it \(pid {pid}\)") as caught:
            remove(shared.prefix, shared.old.id)
        assert "as root" in caught.value.hint
        assert prune(shared.prefix, keep=1, say=said.append) == []
        show(prefix=shared.prefix.path, as_json=False)
        assert f"(pid {pid}); root sees which" in capsys.readouterr().err
    assert said[0].startswith("nothing is deleted: another user's process may use any of 1")
    with as_nobody():
        assert [one.id for one in prune(shared.prefix, keep=1)] == [shared.old.id]


def test_version_that_a_command_line_names_is_in_use(shared):
    inside = os.path.join(shared.prefix.bin_of(shared.current), "llama-server")
    with shared.running("/bin/sh", inside) as pid, as_nobody():
        assert look(shared.prefix)[:2] == ({shared.current.id: [pid]}, [])
        assert remove(shared.prefix, shared.old.id).id == shared.old.id


@pytest.mark.parametrize("way", ["relative", "link"])
def test_server_started_by_a_way_around_may_be_ours(shared, way):
    link = shared.folder / "llama-server"
    link.symlink_to(shared.prefix.server)
    argv, cwd = ("./llama-server", shared.prefix.bin) if way == "relative" else (str(link), "/")
    with shared.running(argv, executable="/bin/cat", cwd=cwd) as pid, as_nobody():
        assert look(shared.prefix).untold == [pid]


def test_server_of_somebody_elses_own_is_not_ours(shared):
    with shared.running("/opt/else/llama-server", executable="/bin/cat"), as_nobody():
        assert look(shared.prefix)[:2] == ({}, [])
        assert look(shared.prefix).is_all
