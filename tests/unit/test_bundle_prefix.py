"""Where bundles go, and what their records say."""

import json
import os

import pytest

from infer_dev import settings
from infer_dev.errors import UsageError
from infer_dev.llama_cpp.binary import find_binary, places_here
from infer_dev.llama_cpp.bundle.prefix import Prefix, Version, source_of


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
