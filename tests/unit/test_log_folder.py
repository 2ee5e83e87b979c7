"""What root makes for another account, and what it leaves alone. Runs as root."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infer_dev.host.account import Account
from infer_dev.host.log.folder import make_log_folder

SOMEBODY = Account(name="somebody", uid=54321, gid=54322, groups=[54322], home="", shell="")
STRANGER = 54399


@pytest.fixture
def folder() -> Iterator[Path]:
    one = Path(tempfile.mkdtemp(prefix="infer-dev-test-"))  # below /tmp, which anybody may write
    one.chmod(0o755)
    yield one
    shutil.rmtree(one)


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def test_only_what_is_missing_is_made_and_given(folder: Path) -> None:
    (folder / "there").mkdir()
    path = folder / "there" / "a" / "b"
    assert make_log_folder(str(path), SOMEBODY)
    assert owner(path) == owner(path.parent) == (SOMEBODY.uid, SOMEBODY.gid)
    assert owner(folder / "there") == (0, 0)
    assert path.stat().st_mode & 0o777 == 0o755
    assert not make_log_folder(str(path), SOMEBODY)
    assert not make_log_folder(str(folder / "there"), SOMEBODY)
    assert owner(folder / "there") == (0, 0)


def test_links_of_root_are_followed(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "absolute").symlink_to(folder / "real")
    (folder / "relative").symlink_to("./absolute/../real")
    assert make_log_folder(str(folder / "absolute" / "a"), SOMEBODY)
    assert make_log_folder(str(folder / "relative" / "b"), SOMEBODY)
    assert owner(folder / "real" / "a") == owner(folder / "real" / "b") == (SOMEBODY.uid, SOMEBODY.gid)


def test_links_without_an_end_are_not(folder: Path) -> None:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    assert not make_log_folder(str(folder / "one" / "a"), SOMEBODY)


@pytest.mark.parametrize(("uid", "mode"), [(STRANGER, 0o755), (SOMEBODY.uid, 0o755), (0, 0o777), (0, 0o775)])
def test_nothing_is_made_where_another_can_write(folder: Path, uid: int, mode: int) -> None:
    theirs = folder / "theirs"
    theirs.mkdir()
    (theirs / "inside").mkdir()
    (theirs / "link").symlink_to(folder)
    os.chown(theirs, uid, uid)
    theirs.chmod(mode)
    for path in (theirs / "a", theirs / "inside" / "a", theirs / "link" / "a"):
        assert not make_log_folder(str(path), SOMEBODY)
        assert not path.exists()


def test_link_that_a_stranger_planted_among_root_s_is_not_followed(folder: Path) -> None:
    folder.chmod(0o1777)
    (folder / "root-s").mkdir()
    (folder / "link").symlink_to(folder / "root-s")
    os.chown(folder / "link", STRANGER, STRANGER, follow_symlinks=False)
    assert not make_log_folder(str(folder / "link" / "a"), SOMEBODY)
    assert make_log_folder(str(folder / "root-s" / "a"), SOMEBODY)
    assert list((folder / "root-s").iterdir()) == [folder / "root-s" / "a"]


@pytest.mark.parametrize(
    "path",
    ["/usr/lib/infer-dev-none/a", "/etc/infer-dev-none", "/run/infer-dev-none/a", "/tmp/../root/infer-dev-none"],
)
def test_nothing_is_made_among_the_system_s_folders(path: str) -> None:
    assert not make_log_folder(path, SOMEBODY)
    assert not Path(path).exists()


def test_file_in_the_way_is_an_error(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_log_folder(str(folder / "file" / "a"), SOMEBODY)
