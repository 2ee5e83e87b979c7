"""Who may read and run what has been installed, whatever the umask of whoever installs it."""

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infer_dev.llama_cpp.bundle.install import install
from infer_dev.llama_cpp.bundle.prefix import Prefix
from infer_dev.llama_cpp.bundle.store import rollback
from tests.parts.bundles import small

NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; `tmp_path` is its owner's only."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def umask_of(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    assert os.umask(before) == request.param, "the install has left another umask"


@pytest.mark.parametrize("umask_of", [0o077, 0o777, 0o027], indirect=True, ids=oct)
def test_server_installed_under_a_strict_umask_is_run_by_another_user(umask_of, open_folder):
    above = open_folder / "made"
    above.mkdir()
    above.chmod(0o755)
    prefix = Prefix(str(above / "prefix"))
    for number in (1, 2):
        archive = small(open_folder / f"{number}.tgz", number)
        install(str(archive), prefix)
    rollback(prefix)
    assert umask_of
    said = subprocess.run(
        [prefix.server, "--version"],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith("version: 1 ")
    closed = [
        str(path)
        for path in (above / "prefix").rglob("*")
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o044 != 0o044
    ]
    assert closed == []


@pytest.mark.parametrize("umask_of", [0o077], indirect=True, ids=oct)
def test_folders_above_the_prefix_are_made_as_the_umask_wants(umask_of, tmp_path):
    install(str(small(tmp_path / "1.tgz", 1)), Prefix(str(tmp_path / "share/infer-dev")))
    assert umask_of
    assert stat.S_IMODE((tmp_path / "share").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "share/infer-dev").stat().st_mode) == 0o755


@pytest.mark.parametrize("umask_of", [0o002], indirect=True, ids=oct)
def test_group_may_write_where_the_umask_lets_it(umask_of, tmp_path):
    install(str(small(tmp_path / "1.tgz", 1)), Prefix(str(tmp_path / "prefix")))
    assert umask_of == 0o002
    assert stat.S_IMODE((tmp_path / "prefix/llama-cpp-versions").stat().st_mode) == 0o775
