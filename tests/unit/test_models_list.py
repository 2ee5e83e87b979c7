"""`infer-dev models`: which files are found, and how they are shown."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from infer_dev.cli.models import HEADERS, default_folders, models, parameters, row, to_json
from infer_dev.errors import UsageError
from infer_dev.llama_cpp.gguf.library import Library
from infer_dev.llama_cpp.gguf.model import Model
from infer_dev.llama_cpp.gguf.search import gguf_files, listed
from tests.parts import tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model.write(tmp_path / "store" / "a" / "tiny.gguf")
    tiny_model.write_shards(tmp_path / "store" / "b" / "set.gguf", tensors_per_shard=8)
    tiny_model.write_shards(tmp_path / "store" / "c" / "lacking.gguf", tensors_per_shard=8)
    (tmp_path / "store" / "c" / "lacking-00001-of-00003.gguf").unlink()
    (tmp_path / "store" / "c" / "page.gguf").write_text("<html>")
    (tmp_path / "store" / "c" / "notes.txt").write_text("")
    (tmp_path / "store" / ".hidden").mkdir()
    tiny_model.write(tmp_path / "store" / ".hidden" / "x.gguf")
    return tmp_path / "store"


def names(paths: tuple[str, ...]) -> list[str]:
    return [os.path.basename(path) for path in paths]


def test_files_are_found_once_through_links_and_loops(folder):
    (folder / "a" / "back").symlink_to(folder)
    (folder / "d").mkdir()
    (folder / "d" / "again.gguf").symlink_to(folder / "a" / "tiny.gguf")
    (folder / "a" / "0.gguf").symlink_to("tiny.gguf")
    (folder / "d" / "gone.gguf").symlink_to(folder / "none")
    os.mkfifo(folder / "d" / "pipe.gguf")
    (folder.parent / "linked").symlink_to(folder / "a")
    found = gguf_files([str(folder.parent / "linked"), str(folder), str(folder / "a" / "tiny.gguf"), "/none"])
    assert found.is_all
    assert sorted(names(found.paths)) == [
        "lacking-00002-of-00003.gguf",
        "lacking-00003-of-00003.gguf",
        "page.gguf",
        "set-00001-of-00003.gguf",
        "set-00002-of-00003.gguf",
        "set-00003-of-00003.gguf",
        "tiny.gguf",
    ]


def test_search_is_bounded_and_says_so(folder):
    assert not gguf_files([str(folder)], most_entries=4).is_all
    shallow = gguf_files([str(folder)], most_depth=1)
    assert (shallow.paths, shallow.is_all) == ((), False)


def test_shards_are_one_row_and_what_cannot_be_read_has_its_reason(folder):
    entries = listed(gguf_files([str(folder)]).paths, Library("").model)
    rows = {cells[-1].removeprefix(f"{folder}/"): cells for cells in map(row, entries)}
    assert rows["a/tiny.gguf"][:8] == ["tiny", "model", "llama", "127.6K", "F32", "2048", "507.5 KiB", "yes"]
    assert rows["b/set-00001-of-00003.gguf"][7] == "yes"
    assert rows["c/lacking-00002-of-00003.gguf"][7].startswith("no: it is shard 2 of 3")
    assert rows["c/page.gguf"][7] == "no: it is a web page that was saved in its place"
    assert len(rows) == 4
    assert {len(cells) for cells in rows.values()} == {len(HEADERS)}


def test_a_name_cannot_steer_the_terminal(folder):
    (entry,) = listed([str(folder / "a" / "tiny.gguf")], Library("").model)
    assert entry.model is not None
    evil = replace(entry, model=replace(entry.model, name="a\x1b]0;x\x07\nb"))
    assert row(evil)[0] == "a\\x1b]0;x\\x07\\x0ab"


def test_where_a_model_fits_is_a_column_where_that_is_known(folder):
    entries = listed(gguf_files([str(folder)]).paths, Library("").model)

    def fits(model: Model) -> str:
        return f"GPU 0 ({model.name})"

    shown = {os.path.basename(entry.path): (row(entry, fits)[-1], to_json(entry, fits)["fits"]) for entry in entries}
    assert shown["tiny.gguf"] == ("GPU 0 (tiny)", "GPU 0 (tiny)")
    assert shown["page.gguf"] == ("-", None)
    assert shown["lacking-00002-of-00003.gguf"] == ("-", None)


def test_command_prints_columns_and_json(folder, cli):
    plain = cli("models", folder, INFER_DEV_CACHE_DIR=str(folder.parent / "cache"))
    assert plain.returncode == 0
    assert plain.stderr == ""
    lines = plain.stdout.splitlines()
    assert lines[0].split() == [*HEADERS, "FITS"]
    assert len(lines) == 5
    document = json.loads(cli("models", folder, "--json", INFER_DEV_CACHE_DIR=str(folder.parent / "cache")).stdout)
    told = {os.path.basename(one["path"]): one for one in document["models"]}
    assert told["tiny.gguf"]["is_complete"]
    assert told["tiny.gguf"]["parameters"] == 127_552
    assert [one["kind"] for one in told["lacking-00002-of-00003.gguf"]["problems"]] == [
        "not-first-shard",
        "shard-missing",
    ]
    assert told["page.gguf"] == dict.fromkeys(told["page.gguf"]) | {
        "path": f"{folder}/c/page.gguf",
        "is_complete": False,
        "reason": "it is a web page that was saved in its place",
        "hint": told["page.gguf"]["hint"],
        "shards": [],
        "problems": [],
    }
    assert document["is_all"]


def test_folders_of_the_configured_files_models_are_looked_at(folder, tmp_path):
    file = tmp_path / "file.toml"
    file.write_text(
        f'[instance.a.server]\nmodel = "{folder}/a/tiny.gguf"\n'
        f'[instance.b.server]\nmodel = "{folder}/a/other.gguf"\n[instance.c.server]\nmodel = "/none/x.gguf"\n'
    )
    assert f"{folder}/a" in default_folders({"AUTO_INFER_LLAMA_CPP_CONFIG": str(file), "PATH": "/bin"})


def test_a_missing_folder_is_a_mistake_of_usage(folder, capsys):
    with pytest.raises(UsageError, match="there is no /none"):
        models("/none")
    (folder / "empty").mkdir()
    assert models(str(folder / "empty")) == 0
    assert "no GGUF files below" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (999, "999"), (1000, "1.0K"), (7_241_732_096, "7.2B"), (1_026_000_000_000, "1.0T")],
)
def test_parameters_are_shown_for_people(count, shown):
    assert parameters(count) == shown
