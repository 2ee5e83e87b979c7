"""Where bundles go, and what their records say."""

import json
import os

import pytest

from infer_dev import settings
from infer_dev.cli.bundle import show
from infer_dev.errors import BundleError, UsageError
from infer_dev.llama_cpp.binary import find_binary, places_here
from infer_dev.llama_cpp.bundle.install import install
from infer_dev.llama_cpp.bundle.prefix import Prefix, Version, source_of
from infer_dev.llama_cpp.bundle.store import locked
from tests.parts.bundles import small


def version(name: str, installed_at: str = "2026-01-01T00:00:00+00:00", **other: object) -> Version:
    values = {
        "id": name, "sha256": name * 4, "version": "b1", "build": 1, "backends": ["cpu"],
        "installed_at": installed_at, "size_bytes": 1,
        "bin": "unpacked/bin", "readmes": [], "source": {}, "cached": "",
    }  # fmt: skip
    return Version(**(values | other))


def put(prefix: Prefix, one: Version) -> None:
    os.makedirs(prefix.folder(one))
    with open(os.path.join(prefix.folder(one), "version.json"), "w", encoding="utf-8") as file:
        json.dump(one.as_dict(), file)


def test_native_prefix_follows_xdg(tmp_path):
    assert settings.native_prefix({"XDG_DATA_HOME": str(tmp_path)}) == f"{tmp_path}/infer-dev"
    assert settings.native_prefix({}) == os.path.expanduser("~/.local/share/infer-dev")


def test_container_prefix_is_taken_where_it_can_be_written(tmp_path, monkeypatch):
    native = {"XDG_DATA_HOME": "/data"}
    monkeypatch.setattr(settings, "CONTAINER_PREFIX", str(tmp_path / "app"))
    assert settings.bundle_prefix(native) == "/data/infer-dev"
    (tmp_path / "app").mkdir()
    assert settings.bundle_prefix(native) == str(tmp_path / "app")


def test_native_bundle_is_found_behind_that_of_the_container():
    assert places_here({"XDG_DATA_HOME": "/data"}) == (
        "/soft/app/llama-cpp/bin/llama-server",
        "/data/infer-dev/llama-cpp/bin/llama-server",
        "/hard/volume/workspace/llama-cpp/build/bin/llama-server",
    )
    assert len(places_here({"XDG_DATA_HOME": "/soft"})) == 3


def test_server_of_a_native_bundle_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    server = tmp_path / "infer-dev/llama-cpp/bin/llama-server"
    server.parent.mkdir(parents=True)
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    assert find_binary("", folder="/", search_path="") == str(server)


def test_versions_are_listed_newest_first_and_found_by_the_beginning_of_their_id(tmp_path):
    prefix = Prefix(str(tmp_path))
    assert prefix.all() == []
    for name, year in (("aa11", 2024), ("ab22", 2026), ("cc33", 2025)):
        put(prefix, version(name, f"{year}-01-01T00:00:00+00:00"))
    assert [one.id for one in prefix.all()] == ["ab22", "cc33", "aa11"]
    assert prefix.find("c").id == "cc33"
    for wanted, said in (("a", "2 begin with it"), ("zz", "there is none"), ("", "there is none")):
        with pytest.raises(UsageError, match=said):
            prefix.find(wanted)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": "x"}', "nonsense"])
def test_record_that_cannot_be_understood_is_no_version(tmp_path, text):
    prefix = Prefix(str(tmp_path))
    put(prefix, version("aa11"))
    (tmp_path / "llama-cpp-versions/aa11/version.json").write_text(text)
    assert prefix.all() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", None), ("installed_at", 5), ("bin", None), ("readmes", [5]), ("backends", None), ("build", "1"),
        ("size_bytes", "x"), ("source", None), ("cached", None), ("sha256", 1),
    ],
)  # fmt: skip
def test_record_of_other_types_is_no_version(tmp_path, key, value):
    prefix = Prefix(str(tmp_path))
    put(prefix, version("aa11"))
    put(prefix, version("bb22", **{key: value}))
    assert [one.id for one in prefix.all()] == ["aa11"]


def test_record_with_what_a_later_infer_dev_adds_is_read(tmp_path):
    prefix = Prefix(str(tmp_path))
    put(prefix, version("aa11"))
    record = tmp_path / "llama-cpp-versions/aa11/version.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"later": 1}))
    assert [one.id for one in prefix.all()] == ["aa11"]


def test_date_that_cannot_be_read_is_listed_as_none(tmp_path, capsys):
    put(Prefix(str(tmp_path)), version("aa11", "nonsense"))
    show(prefix=str(tmp_path), as_json=False)
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "aa11"


def test_relative_prefix_in_a_folder_that_is_gone_is_told(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="cannot tell where here is: the current folder is gone"):
        Prefix("here")
    assert Prefix("/here").path == "/here"


def test_what_is_not_a_folder_is_swept_up_without_harm_to_others(tmp_path):
    (tmp_path / "others/inner").mkdir(parents=True)
    (tmp_path / "others/inner").chmod(0o755)
    prefix = Prefix(str(tmp_path / "prefix"))
    os.makedirs(prefix.versions)
    os.symlink(tmp_path / "others", os.path.join(prefix.versions, ".staging-link"))
    os.mkfifo(os.path.join(prefix.versions, ".trash-pipe"))
    with locked(prefix):
        assert os.listdir(prefix.versions) == [".lock"]
    assert (tmp_path / "others/inner").stat().st_mode & 0o777 == 0o755


def test_folder_in_the_place_of_a_file_is_named(tmp_path):
    prefix = Prefix(str(tmp_path / "prefix"))
    archive = small(tmp_path / "1.tgz", 1)
    os.makedirs(os.path.join(prefix.cache, "1.tgz"))
    with pytest.raises(BundleError, match=r"Is a directory: .*/cache/1\.tgz$"):
        install(str(archive), prefix)


def test_link_to_a_folder_of_somebody_else_is_no_version(tmp_path):
    prefix = Prefix(str(tmp_path))
    assert prefix.current_id() == ""
    os.makedirs(prefix.home)
    os.makedirs(prefix.versions)
    os.symlink("/usr/bin", prefix.bin)
    assert prefix.current_id() == ""


def test_source_changes_with_what_is_written_though_the_time_is_set_back(tmp_path):
    archive = tmp_path / "a"
    archive.write_text("one")
    before = source_of(str(archive))
    assert source_of(str(archive)) == before
    with archive.open("r+") as file:
        file.write("two")
    os.utime(archive, ns=(0, int(str(before["mtime_ns"]))))
    after = source_of(str(archive))
    assert {name for name in before if before[name] != after[name]} == {"ctime_ns"}


@pytest.mark.parametrize(
    ("about", "label"),
    [
        ({}, "b1 (cpu)"),
        ({"version": "0.7.0", "build": 11669, "backends": ["cpu", "cuda"]}, "0.7.0 (build 11669; cpu, cuda)"),
        ({"version": "unknown", "build": None, "backends": []}, "unknown"),
    ],
)
def test_label_is_short(about, label):
    assert version("aa11", **about).label() == label
