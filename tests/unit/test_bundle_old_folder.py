"""What lies in the prefix from before infer-dev, and is nobody's to lose."""

import os
from pathlib import Path

import pytest

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.install import install
from infer_dev.llama_cpp.bundle.prefix import Prefix
from infer_dev.llama_cpp.bundle.store import prune, remove, rollback
from tests.parts.bundles import leftovers, small, version_of


class Old:
    """A prefix whose `bin` is a real folder, with a README and what the server needs beside it."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.prefix = Prefix(str(work / "prefix"))
        self.home = work / "prefix/llama-cpp"
        self.put()

    def put(self) -> None:
        (self.home / "bin").mkdir(parents=True)
        (self.home / "libc").mkdir(exist_ok=True)
        (self.home / "libc/says").write_text("version: 77 (abc)\n")
        (self.home / "bin/llama-server").write_text('#!/bin/sh\ncat "$(dirname "$(realpath "$0")")/../libc/says"\n')
        (self.home / "bin/llama-server").chmod(0o755)
        (self.home / "README.md").write_text("the old one's")
        (self.home / "notes.txt").write_text("mine")

    def install(self, number: int) -> None:
        install(str(small(self.work / f"{number}.tgz", number)), self.prefix)

    def readme(self) -> str:
        return (self.home / "README.md").read_text()


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path)


def test_readme_beside_an_old_folder_goes_with_it_and_comes_back(old):
    old.install(1)
    assert (version_of(old.work / "prefix"), old.readme()) == ("1", "test\n")
    rollback(old.prefix)
    assert (version_of(old.work / "prefix"), old.readme()) == ("77", "the old one's")
    rollback(old.prefix)
    assert (version_of(old.work / "prefix"), old.readme()) == ("1", "test\n")
    assert (old.home / "notes.txt").read_text() == "mine"


def test_folders_beside_an_old_folder_stay_and_are_found_by_its_server(old):
    old.install(1)
    assert (old.home / "libc/says").is_file()
    assert rollback(old.prefix).version.build == 77
    rollback(old.prefix)
    assert [one.build for one in prune(old.prefix, keep=1)] == [77]
    assert (old.home / "libc/says").is_file()


def test_readme_that_a_killed_install_has_not_moved_is_moved_by_the_next(old):
    old.install(1)
    (kept,) = (old.work / "prefix/llama-cpp-versions").glob("old-*/unpacked/README.md")
    (old.home / "README.md").unlink()
    kept.rename(old.home / "README.md")
    old.install(2)
    assert (old.readme(), kept.read_text()) == ("test\n", "the old one's")


def test_readme_of_somebody_else_is_not_replaced(old):
    old.install(1)
    for make in (lambda path: path.write_text("mine"), lambda path: path.symlink_to("notes.txt")):
        (old.home / "README.md").unlink()
        make(old.home / "README.md")
        (old.home / "README.mine").unlink(missing_ok=True)
        (old.home / "README.mine").symlink_to("../notes")
        rollback(old.prefix)
        assert old.readme() == "mine"
        assert os.readlink(old.home / "README.mine") == "../notes"


def test_readme_the_next_version_has_not_goes(old, tmp_path):
    old.install(1)
    other = small(tmp_path / "2.tgz", 2, readme="README.txt")
    install(str(other), old.prefix)
    assert sorted(name for name in os.listdir(old.home) if name.startswith("README")) == ["README.txt"]


def test_link_to_a_server_of_ones_own_is_told_when_it_is_replaced(old):
    own = old.work / "own build"
    (old.home / "bin").rename(own)
    (own / "llama-server").write_text('#!/bin/sh\necho "version: 5 (x)"\n')
    (old.home / "bin").symlink_to(own)
    done = install(str(small(old.work / "1.tgz", 1)), old.prefix)
    assert done.warnings[-1].endswith(f"to go back: ln -sfn '{own}' {old.prefix.bin}")
    assert (own / "llama-server").is_file()
    assert install(str(small(old.work / "2.tgz", 2)), old.prefix).warnings == ()


def test_file_in_the_place_of_the_folder_is_not_overwritten(old):
    (old.home / "bin").rename(old.work / "away")
    (old.home / "bin").write_text("mine")
    with pytest.raises(BundleError, match="bin is not a folder"):
        old.install(1)
    assert (old.home / "bin").read_text() == "mine"
    assert leftovers(old.work / "prefix") == []


def test_old_folder_is_removed_as_any_version(old):
    old.install(1)
    (one,) = [one for one in old.prefix.all() if one.build == 77]
    remove(old.prefix, "old-")
    assert not os.path.exists(old.prefix.folder(one))
