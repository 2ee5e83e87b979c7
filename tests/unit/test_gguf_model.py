"""Models as their files tell them: what they are, and what is wrong with a set of shards."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter, LlamaFileType

from infer_dev.llama_cpp.gguf.cache import read_cached
from infer_dev.llama_cpp.gguf.error import Fault, GgufError
from infer_dev.llama_cpp.gguf.header import read_header
from infer_dev.llama_cpp.gguf.model import Model, ModelKind, read_model
from infer_dev.llama_cpp.gguf.shards import ProblemKind
from tests.parts import gguf_bytes as raw
from tests.parts import tiny_model

SHARDS = [f"m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder with a model of three files."""
    folder = tmp_path / "set"
    tiny_model.write_shards(folder / "m.gguf", tensors_per_shard=8)
    assert sorted(os.listdir(folder)) == SHARDS
    return folder


def kinds(folder: Path, name: str = SHARDS[0]) -> list[ProblemKind]:
    return [one.kind for one in read_model(str(folder / name)).problems]


def write(path: Path, describe: Callable[[GGUFWriter], object], architecture: str = "llama") -> Model:
    writer = GGUFWriter(path, architecture)
    describe(writer)
    writer.add_tensor("t.weight", np.zeros((2, 256), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_model(str(path))


def test_model_of_one_file_is_told(tmp_path):
    tiny_model.write(tmp_path / "tiny.gguf")
    model = read_model(str(tmp_path / "tiny.gguf"))
    assert (model.kind, model.architecture, model.name, model.quantisation) == ("model", "llama", "tiny", "F32")
    assert (model.context_tokens, model.vocabulary_tokens) == (2048, 354)
    assert model.has_chat_template
    assert model.problems == ()
    assert model.size_bytes == (tmp_path / "tiny.gguf").stat().st_size
    assert model.parameters == sum(one.size_bytes for one in model.tensors) // 4
    assert [shard.path for shard in model.shards] == [model.path]
    assert (model.number("block_count"), model.number("nothing"), model.text("nothing")) == (2, None, "")


def test_shards_are_folded_into_one(shards, tmp_path):
    tiny_model.write(tmp_path / "whole.gguf")
    whole, model = read_model(str(tmp_path / "whole.gguf")), read_model(str(shards / SHARDS[0]))
    assert model.problems == ()
    assert [os.path.basename(one.path) for one in model.shards] == SHARDS
    assert (model.parameters, model.context_tokens, model.name) == (whole.parameters, 2048, "tiny")
    assert sorted((one.name, one.shape) for one in model.tensors) == sorted(
        (one.name, one.shape) for one in whole.tensors
    )
    assert model.size_bytes == sum((shards / name).stat().st_size for name in SHARDS)


def test_missing_shards_are_all_named(shards):
    for name in SHARDS[1:]:
        (shards / name).unlink()
    model = read_model(str(shards / SHARDS[0]))
    assert [one.kind for one in model.problems] == [ProblemKind.SHARD_MISSING]
    assert model.problems[0].message == f"2 of 3 shards are missing: {SHARDS[1]}, {SHARDS[2]}"
    assert [one.is_missing for one in model.shards] == [False, True, True]


def test_another_shard_than_the_first_is_told(shards):
    problem = read_model(str(shards / SHARDS[1])).problems[0]
    assert problem.kind == ProblemKind.NOT_FIRST_SHARD
    assert SHARDS[0] in problem.hint


def test_swapped_shards_are_told(shards):
    (shards / SHARDS[1]).rename(shards / "x")
    (shards / SHARDS[2]).rename(shards / SHARDS[1])
    (shards / "x").rename(shards / SHARDS[2])
    assert kinds(shards) == [ProblemKind.SHARDS_SWAPPED] * 2
    assert kinds(shards, SHARDS[1]) == [ProblemKind.SHARDS_SWAPPED] * 2


def test_a_renamed_first_shard_is_told(shards):
    (shards / SHARDS[0]).rename(shards / "model.gguf")
    model = read_model(str(shards / "model.gguf"))
    assert [one.kind for one in model.problems] == [ProblemKind.SHARD_RENAMED]
    assert "-00001-of-00003.gguf" in model.problems[0].hint


def test_a_first_shard_named_for_another_count_is_told(shards):
    (shards / SHARDS[0]).rename(shards / "m-00001-of-00004.gguf")
    assert kinds(shards, "m-00001-of-00004.gguf") == [ProblemKind.SHARD_RENAMED]
    (shards / "m-00001-of-00004.gguf").rename(shards / "m-00009-of-00003.gguf")
    assert kinds(shards, "m-00009-of-00003.gguf") == [ProblemKind.SHARDS_SWAPPED]


def test_a_truncated_shard_is_told_by_how_much(shards):
    os.truncate(shards / SHARDS[2], (shards / SHARDS[2]).stat().st_size - 100)
    model = read_model(str(shards / SHARDS[0]))
    assert [(one.kind, one.path) for one in model.problems] == [("truncated", str(shards / SHARDS[2]))]
    assert "100 bytes are missing at its end" in model.problems[0].message


def test_an_empty_shard_is_told(shards):
    (shards / SHARDS[1]).write_bytes(b"")
    model = read_model(str(shards / SHARDS[0]))
    assert [(one.kind, one.message) for one in model.problems] == [("shard-unreadable", "it is empty")]


def test_a_shard_of_another_set_is_told(shards, tmp_path):
    other = tmp_path / "other"
    tiny_model.write_shards(other / "m.gguf", tensors_per_shard=11, blocks=3)
    name = next(one for one in os.listdir(other) if "00002" in one)
    shutil.copy(other / name, shards / SHARDS[1])
    told = read_model(str(shards / SHARDS[0])).problems
    assert {one.kind for one in told} == {ProblemKind.SHARD_OF_OTHER_SET}
    assert any(one.is_refused for one in told)


def test_a_file_by_itself_in_the_place_of_a_shard_is_told(shards):
    tiny_model.write(shards / SHARDS[1])
    told = read_model(str(shards / SHARDS[0])).problems
    assert "a file by itself" in told[0].message
    assert "are in several shards" in told[1].message


def test_a_set_that_claims_too_many_is_not_looked_for(tmp_path):
    path = tmp_path / "m-00001-of-60000.gguf"
    path.write_bytes(raw.header([raw.pair("split.count", raw.U16, 60_000)], []))
    assert [one.kind for one in read_model(str(path)).problems] == ["shard-of-other-set"]


@pytest.mark.parametrize(
    ("describe", "architecture", "kind"),
    [
        (lambda _: None, "llama", ModelKind.MODEL),
        (lambda writer: writer.add_type("model"), "qwen3", ModelKind.MODEL),
        (lambda writer: writer.add_type("mmproj"), "clip", ModelKind.MMPROJ),
        (lambda _: None, "clip", ModelKind.MMPROJ),
        (lambda writer: writer.add_type("adapter"), "llama", ModelKind.LORA),
        (lambda _: None, "controlvector", ModelKind.CONTROL_VECTOR),
        (lambda writer: writer.add_type("imatrix"), "imatrix", ModelKind.IMATRIX),
    ],
)
def test_kind_of_a_file_is_told(tmp_path, describe, architecture, kind):
    assert write(tmp_path / "a.gguf", describe, architecture).kind == kind


def test_quantisation_is_that_of_the_file_else_of_most_bytes(tmp_path):
    told = write(tmp_path / "a.gguf", lambda writer: writer.add_file_type(LlamaFileType.MOSTLY_Q4_K_M))
    guessed = write(tmp_path / "b.gguf", lambda writer: writer.add_file_type(1024 + 15))
    unknown = write(tmp_path / "c.gguf", lambda writer: writer.add_file_type(999))
    assert [told.quantisation, guessed.quantisation, unknown.quantisation] == ["Q4_K_M", "Q4_K_M", "F32"]


def test_values_of_the_wrong_kind_are_taken_as_absent(tmp_path):
    def describe(writer: GGUFWriter) -> None:
        writer.add_string("llama.context_length", "many")
        writer.add_bool("llama.vocab_size", True)

    model = write(tmp_path / "a.gguf", describe)
    assert (model.context_tokens, model.vocabulary_tokens, model.number("vocab_size")) == (None, None, None)


# --- kept from run to run ---


@pytest.fixture
def large(tmp_path: Path) -> str:
    """A file whose header is large enough to be kept, and old enough."""
    words = b"".join(raw.text(f"token{index}") for index in range(30_000))
    pairs = [
        raw.pair("general.architecture", raw.STRING, "llama"),
        raw.pair("tokenizer.chat_template", raw.STRING, "x" * 3000),
        raw.pair("llama.rope.freq_base", raw.F32, 0.25),
        raw.array("llama.attention.head_count_kv", raw.U32, 2, bytes(8)),
        raw.array("tokenizer.ggml.tokens", raw.STRING, 30_000, words),
    ]
    path = tmp_path / "large.gguf"
    tensors = [raw.tensor("a", (8, 2), 0, 0), raw.tensor("b", (8,), 99, 77)]
    path.write_bytes(raw.header(pairs, tensors) + bytes(200))
    os.utime(path, (1e9, 1e9))
    return str(path)


def spoil(folder: Path) -> None:
    """Have the kept headers say something else, so that one can tell where an answer comes from."""
    for entry in folder.iterdir():
        entry.write_text(entry.read_text().replace("llama", "lemma"))


def test_a_large_header_is_read_from_where_it_was_kept(large, tmp_path):
    folder = tmp_path / "cache" / "gguf"
    assert read_cached(large, str(folder)) == read_header(large)
    assert read_cached(large, str(folder)) == read_header(large)
    assert len(list(folder.iterdir())) == 1
    spoil(folder)
    assert read_cached(large, str(folder)).metadata["general.architecture"] == "lemma"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_header_is_read_anew_once_the_file_is_another(large, tmp_path):
    folder = tmp_path / "cache"
    read_cached(large, str(folder))
    spoil(folder)
    os.utime(large, ns=(1, 1))
    assert read_cached(large, str(folder)).metadata["general.architecture"] == "llama"
    os.truncate(large, os.path.getsize(large) - 1)
    assert read_cached(large, str(folder)).size_bytes == os.path.getsize(large)
    os.unlink(large)
    with pytest.raises(GgufError) as caught:
        read_cached(large, str(folder))
    assert caught.value.fault == Fault.MISSING


def test_a_header_of_a_file_just_written_is_not_kept(large, tmp_path):
    os.utime(large)
    read_cached(large, str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b"null", b'{"format": 1}', b"[" * 100_000, b"\xff\xfe"])
def test_a_broken_entry_is_read_anew_and_replaced(large, tmp_path, broken):
    folder = tmp_path / "cache"
    read_cached(large, str(folder))
    (entry,) = folder.iterdir()
    entry.write_bytes(broken)
    assert read_cached(large, str(folder)) == read_header(large)
    assert entry.read_bytes() != broken


def test_nothing_is_lost_where_nothing_can_be_kept(large, tmp_path):
    (tmp_path / "file").write_text("")
    assert read_cached(large, str(tmp_path / "file" / "cache")) == read_header(large)
