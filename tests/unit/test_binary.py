"""Which llama-server runs."""

import os
from pathlib import Path

import pytest

from infer_dev.errors import EXIT_UNAVAILABLE, UnavailableError
from infer_dev.llama_cpp.binary import USUAL_PLACES, find_binary, rejection


def server(path: Path, mode: int = 0o755) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


def refused(**kwargs: object) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught:
        find_binary(**kwargs)
    assert caught.value.exit_status == EXIT_UNAVAILABLE
    assert caught.value.message.startswith("cannot find llama-server")
    assert caught.value.hint
    return caught.value


def test_usual_places_are_those_of_the_contract():
    assert USUAL_PLACES == (
        "/soft/app/llama-cpp/bin/llama-server",
        "/hard/volume/workspace/llama-cpp/build/bin/llama-server",
    )


@pytest.mark.parametrize(("there", "found"), [((0, 1, 2), 0), ((1, 2), 1), ((0, 2), 0), ((2,), 2)])
def test_first_usual_place_wins_and_path_comes_last(tmp_path, there, found):
    places = [tmp_path / "bundle/llama-server", tmp_path / "workspace/llama-server", tmp_path / "path/llama-server"]
    for index in there:
        server(places[index])
    assert find_binary(
        "", folder="/", search_path=str(tmp_path / "path"), usual_places=[str(place) for place in places[:2]]
    ) == str(places[found])


def test_path_is_searched_in_order_past_what_cannot_run(tmp_path):
    server(tmp_path / "a/llama-server", 0o644)
    (tmp_path / "b/llama-server").mkdir(parents=True)
    expected = server(tmp_path / "c/llama-server")
    server(tmp_path / "d/llama-server")
    path = ":".join(str(tmp_path / name) for name in ("nowhere", "a", "b", "c", "d"))
    assert find_binary("", folder="/", search_path=path, usual_places=()) == expected


def test_relative_folder_on_path_gives_an_absolute_binary(tmp_path, monkeypatch):
    expected = server(tmp_path / "bin/llama-server")
    monkeypatch.chdir(tmp_path)
    assert find_binary("", folder="/", search_path="bin", usual_places=()) == expected


def test_link_to_a_server_is_accepted(tmp_path):
    (tmp_path / "link").symlink_to(server(tmp_path / "real/llama-server"))
    assert find_binary(str(tmp_path / "link"), folder="/", search_path="") == str(tmp_path / "link")


@pytest.mark.parametrize("configured", ["{folder}/my server", "my server", "./sub/../my server"])
def test_configured_path_counts_from_the_folder_of_the_file(tmp_path, configured):
    expected = server(tmp_path / "my server")
    assert (
        find_binary(configured.format(folder=tmp_path), folder=str(tmp_path), search_path="", usual_places=())
        == expected
    )


def test_configured_path_is_the_only_candidate(tmp_path):
    there = server(tmp_path / "llama-server")
    err = refused(configured="/nowhere/llama-server", folder="/", search_path=str(tmp_path), usual_places=[there])
    assert err.message == ("cannot find llama-server: master.llama_cpp_path = /nowhere/llama-server: does not exist")


def make_nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_nothing, "does not exist"),
        (Path.mkdir, "is a folder"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nowhere"),
        (lambda path: path.symlink_to(path.name), "is a link to nowhere"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: server(path, 0o644), "is not executable (chmod +x)"),
        (server, ""),
    ],
)
def test_rejection_tells_why(tmp_path, make, reason):
    path = tmp_path / "x"
    make(path)
    assert rejection(str(path)) == reason


def test_every_place_tried_is_told_with_its_reason(tmp_path):
    bundle, workspace, lib = tmp_path / "bundle", tmp_path / "workspace", tmp_path / "lib"
    bundle.mkdir()
    server(workspace, 0o644)
    lib.mkdir()
    err = refused(
        configured="", folder="/", search_path=f"{lib}:/nowhere", usual_places=[str(bundle), str(workspace), "/none"]
    )
    *told, on_path = err.message.splitlines()
    assert told == [
        "cannot find llama-server; tried in this order:",
        f"  {bundle}: is a folder",
        f"  {workspace}: is not executable (chmod +x)",
        "  /none: does not exist",
    ]
    assert on_path.startswith("  llama-server on PATH: ")
    assert on_path.endswith(f"{lib}:/nowhere")


def test_server_on_path_that_cannot_run_is_told_with_its_reason(tmp_path):
    there = server(tmp_path / "llama-server", 0o644)
    err = refused(configured="", folder="/", search_path=f"/nowhere:{tmp_path}", usual_places=())
    assert [line for line in err.message.splitlines() if there in line and "is not executable" in line]


def test_empty_path_is_told():
    err = refused(configured="", folder="/", search_path="", usual_places=())
    assert "(PATH is empty)" in err.message
