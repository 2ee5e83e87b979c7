"""What the check says of the model files that an instance names."""

import os
from collections.abc import Callable
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from gguf import GGUFWriter

from infer_dev.check.finding import Finding, Level
from infer_dev.check.models.files import model_findings
from infer_dev.check.subject import Subject
from infer_dev.check.words import Role, Word, words_of
from infer_dev.config.load import load
from infer_dev.host.account import Account
from infer_dev.llama_cpp.gguf.library import Library
from infer_dev.plan.build import build_plan
from tests.parts import gguf_bytes as raw
from tests.parts import tiny_model
from tests.parts.reachable import open_to_others

NOBODY = Account(name="somebody", uid=4242, gid=4242, groups=[4242], home="", shell="")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Models of all kinds."""
    tiny_model.write(tmp_path / "tiny.gguf")
    tiny_model.write_shards(tmp_path / "set.gguf", tensors_per_shard=8)
    write(tmp_path / "mmproj.gguf", "clip", lambda writer: writer.add_type("mmproj"))
    write(tmp_path / "lora.gguf", "llama", lambda writer: writer.add_type("adapter"))
    write(tmp_path / "vector.gguf", "controlvector")
    return tmp_path


def write(path: Path, architecture: str, describe: Callable[[GGUFWriter], object] = bool) -> None:
    writer = GGUFWriter(path, architecture)
    describe(writer)
    writer.add_tensor("t.weight", np.zeros((2, 256), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def subject_of(folder: Path, server: str, *, is_sure: bool = True) -> Subject:
    """An instance with these keys, started in `folder`."""
    path = folder / "file.toml"
    path.write_text(f'[instance.a.control]\ncwd = "{folder}"\n[instance.a.server]\n{server}\n')
    file = load(str(path))
    (spec,) = build_plan(file, "/bin/llama-server", {}).specs
    words = words_of(file, file.instances[0])
    options: dict[str, str] = {}
    option_paths: dict[str, Word | tuple[str, ...]] = {}
    for index, word in enumerate(words):
        if not word.text.startswith("--"):
            continue
        following = words[index + 1] if index + 1 < len(words) else None
        has_value = following is not None and not following.text.startswith("--")
        options[word.text[2:]] = following.text if has_value and following else ""
        option_paths[word.text[2:]] = word.path if word.role is Role.FLAG else word
    return Subject(
        file=file, spec=spec, words=words, options=options, option_paths=option_paths, is_sure=is_sure
    )  # fmt: skip


def findings(folder: Path, server: str, *, is_sure: bool = True, account: Account | None = None) -> list[Finding]:
    subject = subject_of(folder, server, is_sure=is_sure)
    return list(model_findings(subject, Library(""), account=account, models_root=str(folder / "llm-models")))


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    "server",
    [
        'model = "tiny.gguf"',
        'model = "set-00001-of-00003.gguf"',
        'model = "tiny.gguf"\nctx_size = 2048',
        'model = "tiny.gguf"\nctx_size = 8192\nparallel = 4',
        'model = "tiny.gguf"\nctx_size = 8192\nrope_scaling = "yarn"',
        'model = "tiny.gguf"\nctx_size = 8192\nrope_scale = 4',
        'model = "tiny.gguf"\nctx_size = 0\nparallel = -1',
        'model = "tiny.gguf"\nmmproj = "mmproj.gguf"',
        'model = "tiny.gguf"\nlora = "lora.gguf"',
        'model = "tiny.gguf"\nlora = ["lora.gguf", "./lora.gguf"]',
        'model = "tiny.gguf"\nlora = "lora.gguf,lora.gguf"',
        'model = "tiny.gguf"\nlora_scaled = "lora.gguf:0.5,lora.gguf:1"',
        'model = "tiny.gguf"\ncontrol_vector_scaled = "vector.gguf:0.5"',
        'model = "tiny.gguf"\nmodel_draft = "set-00001-of-00003.gguf"',
        'models_dir = "."',
    ],
)
def test_correct_files_give_no_finding(folder, server):
    assert findings(folder, server) == []


def test_a_mistyped_name_has_the_nearest_as_hint(folder):
    found = only(findings(folder, 'model = "tinny.gguf"'))
    assert (found.level, found.code, found.instance) == (Level.ERROR, "model-not-found", "a")
    assert found.message == f"{folder}/tinny.gguf: no such file"
    assert found.hint == f"did you mean {folder}/tiny.gguf?"
    assert (found.place.line, found.place.key) == (4, "instance.a.server.model")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Tiny.GGUF", "tiny.gguf?"),
        ("tiny", "tiny.gguf?"),
        ("set.gguf", "set-00001-of-00003.gguf?"),
        ("other-model-altogether.gguf", " has lora.gguf, mmproj.gguf, "),
        ("$HOME/tiny.gguf", "as no shell reads it"),
        ("~/tiny.gguf", "as no shell reads it"),
    ],
)
def test_a_missing_file_has_a_hint(folder, name, hint):
    found = only(findings(folder, f'model = "{name}"'))
    assert found.code == "model-not-found"
    assert hint in found.hint


def test_a_missing_folder_is_told_with_the_nearest(folder):
    (folder / "GLM-4.7").mkdir()
    found = only(findings(folder, 'model = "GLM-4.6/a.gguf"'))
    assert found.message.endswith(f"there is no folder {folder}/GLM-4.6")
    assert found.hint == f"did you mean {folder}/GLM-4.7?"


def test_a_link_to_nowhere_is_told(folder):
    (folder / "link.gguf").symlink_to("blobs/123")
    found = only(findings(folder, 'model = "link.gguf"'))
    assert "it is a link to blobs/123, which is not there" in found.message


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ([], "llm-models/GLM is not there"),
        (["GLM"], "llm-models/GLM is empty"),
        (["Qwen/x"], "llm-models/GLM is not there"),
    ],
)
def test_a_forgotten_mount_is_told(folder, made, told):
    for name in made:
        (folder / "llm-models" / name).mkdir(parents=True)
    found = only(findings(folder, f'model = "{folder}/llm-models/GLM/a.gguf"'))
    assert "the mount looks forgotten" in found.message
    assert told in found.message
    assert "INFER_DEV_MODEL_NAME=GLM" in found.hint


def test_a_wrong_name_in_a_mount_is_no_forgotten_mount(folder):
    (folder / "llm-models" / "GLM").mkdir(parents=True)
    (folder / "llm-models" / "GLM" / "b.gguf").write_text("")
    found = only(findings(folder, f'model = "{folder}/llm-models/GLM/a.gguf"'))
    assert "no such file" in found.message
    assert "did you mean" in only(findings(folder, f'model = "{folder}/llm-models/GML/a.gguf"')).hint


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        (b"", "model-not-gguf", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "model-not-gguf", "Git LFS pointer"),
        (pack("<Q", 2) + b"{}", "model-not-gguf", "safetensors"),
        (b"GGUF\3\0\0\0", "model-damaged", "ends within its header"),
        (b"GGUF\1\0\0\0", "model-not-gguf", "GGUF version 1"),
        (raw.header([], [raw.tensor("a", (4,), 0, 0)]) + bytes(32), "model-damaged", "no general.architecture"),
        (raw.header([raw.pair("general.architecture", 8, "llama")], []), "model-damaged", "no tensors"),
    ],
)
def test_a_file_that_is_no_model_is_told(folder, content, code, told):
    (folder / "bad.gguf").write_bytes(content)
    found = only(findings(folder, 'model = "bad.gguf"'))
    assert (found.level, found.code) == (Level.ERROR, code)
    assert told in found.message
    assert found.hint


def test_a_folder_as_model_is_told(folder):
    assert only(findings(folder, 'model = "."')).code == "model-not-a-file"


def test_a_header_beyond_all_limits_is_a_note(folder):
    (folder / "odd.gguf").write_bytes(raw.header([], [], key_count=1 << 40))
    found = only(findings(folder, 'model = "odd.gguf"'))
    assert (found.level, found.code) == (Level.NOTE, "model-unknown")


def test_a_big_endian_file_is_told(folder):
    pairs = [raw.pair("general.architecture", raw.STRING, "llama", order=">")]
    rows = [raw.tensor("a", (4,), 0, 0, order=">")]
    (folder / "big.gguf").write_bytes(raw.header(pairs, rows, order=">") + bytes(32))
    found = only(findings(folder, 'model = "big.gguf"'))
    assert (found.level, found.code) == (Level.ERROR, "model-of-other-byte-order")


def test_a_truncated_file_is_told_by_how_much(folder):
    os.truncate(folder / "tiny.gguf", (folder / "tiny.gguf").stat().st_size - 7)
    found = only(findings(folder, 'model = "tiny.gguf"'))
    assert (found.level, found.code) == (Level.ERROR, "model-truncated")
    assert "7 bytes are missing" in found.message


def test_a_missing_shard_and_a_wrong_first_are_told(folder):
    (folder / "set-00003-of-00003.gguf").unlink()
    found = only(findings(folder, 'model = "set-00001-of-00003.gguf"'))
    assert (found.level, found.code) == (Level.ERROR, "model-shard-missing")
    assert "set-00003-of-00003.gguf" in found.message
    codes = [one.code for one in findings(folder, 'model = "set-00002-of-00003.gguf"')]
    assert codes == ["model-not-first-shard", "model-shard-missing"]


def test_an_unfinished_download_is_a_warning(folder):
    (folder / "tiny.gguf.aria2").write_text("")
    found = only(findings(folder, 'model = "tiny.gguf"'))
    assert (found.level, found.code) == (Level.WARNING, "model-unfinished")


@pytest.mark.parametrize(
    ("server", "level", "told"),
    [
        ('model = "mmproj.gguf"', "error", "it is a multimodal projector, not a model"),
        ('model = "lora.gguf"', "error", "it is a LoRA adapter, not a model"),
        ('model = "tiny.gguf"\nmmproj = "tiny.gguf"', "error", "it is a model, not a multimodal projector"),
        ('model = "tiny.gguf"\nlora = "tiny.gguf"', "error", "it is a model, not a LoRA adapter"),
        ('model = "tiny.gguf"\ncontrol_vector = "tiny.gguf"', "warning", "it is a model, not a control vector"),
        ('model = "tiny.gguf"\nmodel_draft = "mmproj.gguf"', "error", "it is a multimodal projector, not a model"),
        ('model = "tiny.gguf"\nspec_draft_model = "none.gguf"', "error", "no such file"),
        ('model = "tiny.gguf"\nmmproj = "none.gguf"', "error", "no such file"),
        ('model = "tiny.gguf"\ncontrol_vector = "none.gguf"', "warning", "no such file"),
        ('model = "tiny.gguf"\nlora_scaled = "lora.gguf:1,none.gguf:1"', "error", "no such file"),
        ('model = "tiny.gguf"\nlora = ["none.gguf", "lora.gguf"]', "error", "no such file"),
        ('model = "tiny.gguf"\nextra_args = ["--lora", "none.gguf"]', "error", "no such file"),
    ],
)
def test_other_files_than_the_model_are_checked_alike(folder, server, level, told):
    found = only(findings(folder, server))
    assert (found.level, told in found.message) == (level, True), found


def test_each_of_several_adapters_has_its_own_place(folder):
    found = only(findings(folder, 'model = "tiny.gguf"\nlora = ["lora.gguf",\n  "none.gguf"]'))
    assert (found.place.line, found.place.key) == (6, "instance.a.server.lora[1]")


def test_an_adapter_of_another_architecture_is_told(folder):
    write(folder / "other.gguf", "qwen3", lambda writer: writer.add_type("adapter"))
    found = only(findings(folder, 'model = "tiny.gguf"\nlora = "other.gguf"'))
    assert (found.level, found.code) == (Level.ERROR, "adapter-of-other-model")


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("ctx_size = 2049", "ctx-size 2049 is more than the 2048 tokens"),
        ("ctx_size = 16384\nparallel = 4", "ctx-size 16384 (4096 for each of 4 slots) is more than the 2048"),
        ("ctx_size = 8192\nparallel = 4\nkv_unified = true", "ctx-size 8192 is more than the 2048"),
    ],
)
def test_more_context_than_trained_for_is_a_warning(folder, server, told):
    found = only(findings(folder, f'model = "tiny.gguf"\n{server}'))
    assert (found.level, found.code) == (Level.WARNING, "context-beyond-training")
    assert told in found.message
    assert found.place.key == "instance.a.server.ctx_size"


def test_a_draft_of_another_vocabulary_is_a_warning(folder):
    def describe(writer: GGUFWriter) -> None:
        writer.add_vocab_size(1000)

    write(folder / "draft.gguf", "llama", describe)
    found = only(findings(folder, 'model = "tiny.gguf"\nmodel_draft = "draft.gguf"'))
    assert (found.level, found.code) == (Level.WARNING, "draft-vocabulary")
    assert findings(folder, 'model = "tiny.gguf"\nmodel_draft = "draft.gguf"\nspec_type = "draft-mtp"') == []


def test_an_embedding_model_without_embeddings_is_a_note(folder):
    write(folder / "bert.gguf", "bert")
    assert only(findings(folder, 'model = "bert.gguf"')).level == Level.NOTE
    assert findings(folder, 'model = "bert.gguf"\nembeddings = true') == []


@pytest.mark.parametrize("key", ["hf_repo", "model_url", "docker_repo"])
def test_a_download_is_a_note(folder, key):
    found = only(findings(folder, f'model = "none.gguf"\n{key} = "ggml-org/tiny"'))
    assert (found.level, found.code) == (Level.NOTE, "model-downloaded")
    assert "'ggml-org/tiny'" in found.message


def test_nothing_is_an_error_where_the_options_are_not_sure(folder):
    found = only(findings(folder, 'model = "none.gguf"', is_sure=False))
    assert found.level == Level.WARNING


def test_what_the_servers_account_may_not_read_is_told(folder):
    open_to_others(folder)
    assert findings(folder, 'model = "set-00001-of-00003.gguf"', account=NOBODY) == []
    os.chmod(folder / "set-00002-of-00003.gguf", 0o600)
    found = only(findings(folder, 'model = "set-00001-of-00003.gguf"', account=NOBODY))
    assert (found.level, found.code) == (Level.ERROR, "model-unreadable")
    assert f"'somebody' may not read {folder}/set-00002-of-00003.gguf" in found.message
    os.chmod(folder, 0o700)
    assert f"may not enter {folder}" in only(findings(folder, 'model = "tiny.gguf"', account=NOBODY)).message


def test_a_folder_above_a_link_is_where_the_link_leads(folder):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "tiny.gguf").rename(folder / "deep" / "tiny.gguf")
    (folder / "jump").symlink_to("deep/er")
    assert not findings(folder, 'model = "jump/../tiny.gguf"')


def test_a_router_comes_up_without_what_it_hands_on(folder):
    found = findings(folder, 'models_dir = "."\nlora = "none.gguf"')
    assert [(one.level, one.code) for one in found] == [(Level.WARNING, "model-not-found")]


def test_a_projector_that_will_be_fetched_need_not_be_there(folder):
    assert not findings(folder, 'model = "tiny.gguf"\nmmproj = "none.gguf"\nmmproj_url = "http://127.0.0.1/x"')
