"""Seeded mistakes: each one is found, at its line, with a message that names the fix; without it nothing is."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infer_dev.check.finding import Finding, Level
from infer_dev.check.report import Report
from infer_dev.check.resolve import source_of_caller
from infer_dev.check.run import Facts, examine
from infer_dev.host.gpu.inventory import Gpu, Inventory
from infer_dev.llama_cpp.backends import Build
from tests.conftest import Parts
from tests.parts import tiny_model

ERROR, WARNING, NOTE = Level.ERROR, Level.WARNING, Level.NOTE


@dataclass(frozen=True)
class Mistake:
    """A line of the right file, and what somebody wrote instead.

    Attributes:
        name: of the test.
        right, wrong: a text of the file and what stands there instead.
        level, says, fix: of the finding; the two are part of its message and of its hint.
        at: a text behind the beginning of `wrong`, on the line where it has to be found; by default its last line.
    """

    name: str
    right: str
    wrong: str
    level: Level
    says: str
    fix: str
    at: str = ""


FILE = """\
[master]
llama_cpp_path = "{server}"

[instance.control]
log_dir = "{folder}/logs"

[instance.server]
host = "127.0.0.1"
metrics = true

[instance.chat.control]
gpu_ids = "0"

[instance.chat.server]
model = "{folder}/chat.gguf"
alias = "chat"
port = {port_a}
ctx_size = 2048
cache_type_k = "q8_0"
flash_attn = "on"
n_gpu_layers = 99
parallel = 2
extra_args = [
  "--temp", "0.5",
  "--swa-full",
]

[instance.big.control]
gpu_ids = "1"

[instance.big.server]
model = "{folder}/big-00001-of-00003.gguf"
port = {port_b}
ctx_size = 1024
threads = 2
"""

OPTIONS = [
    Mistake("misspelt-key", "ctx_size = 2048", "ctx_sise = 2048", ERROR, "--ctx-sise", "ctx_size"),
    Mistake("dash-lost", "n_gpu_layers = 99", "ngpulayers = 99", ERROR, "--ngpulayers", "n_gpu_layers"),
    Mistake("misspelt-flag", '"--temp", "0.5"', '"--tmep", "0.5"', ERROR, "--tmep", "--temp"),
    Mistake(
        "true-for-a-choice", 'flash_attn = "on"', "flash_attn = true", ERROR, "needs a value", 'flash_attn = "on"'
    ),
    Mistake("true-for-a-number", "ctx_size = 2048", "ctx_size = true", ERROR, "needs a value", "ctx_size = N"),
    Mistake("value-for-a-switch", "metrics = true", 'metrics = "yes"', ERROR, "takes no value", "metrics = true"),
    Mistake("number-for-a-switch", "metrics = true", "metrics = 1", ERROR, "takes no value", "metrics = true"),
    Mistake("no-such-choice", 'cache_type_k = "q8_0"', 'cache_type_k = "q8"', ERROR, "none of", '"q8_0"'),
    Mistake("choice-in-capitals", 'flash_attn = "on"', 'flash_attn = "ON"', ERROR, "ON", '"on"'),
    Mistake("number-with-unit", "ctx_size = 2048", 'ctx_size = "2k"', WARNING, "2k", "2048"),
    Mistake("words-for-a-number", "threads = 2", 'threads = "two"', ERROR, "two", "number"),
    Mistake("two-words-in-one", '"--swa-full"', '"--top-k 40"', ERROR, "one word", '"--top-k", "40"'),
    Mistake("equals-sign", '"--swa-full"', '"--top-k=40"', ERROR, "one word", '"--top-k", "40"'),
    Mistake("value-forgotten", '"--swa-full"', '"--top-k"', ERROR, "needs a value", "value"),
    Mistake("stray-word", '"--swa-full"', '"--swa-full", "now"', ERROR, "now", "take", at="now"),
    Mistake("given-twice", '"--swa-full"', '"--parallel", "4"', WARNING, "parallel", "", at="parallel"),
    Mistake("gone-option", '"--swa-full"', '"--no-mmap"', ERROR, "--no-mmap", "--load-mode none"),
    Mistake("false-does-nothing", "parallel = 2", "warmup = false", WARNING, "warmup", "no_warmup = true"),
]
CONTRACT = [
    Mistake("not-toml", 'alias = "chat"', "alias = chat", ERROR, "not valid TOML", "quotes"),
    Mistake("unknown-control-key", 'gpu_ids = "1"', 'gpuids = "1"', ERROR, "unknown key", "gpu_ids"),
    Mistake("wrong-type", 'gpu_ids = "1"', 'gpu_ids = "1"\nautostart = "yes"', ERROR, "", "", at="autostart"),
    Mistake("bad-gpu-id", 'gpu_ids = "1"', 'gpu_ids = "one"', ERROR, "one", ""),
    Mistake(
        "server-key-in-control",
        'gpu_ids = "1"',
        'gpu_ids = "1"\nctx_size = 1',
        ERROR,
        "unknown key",
        "belongs in the server table",
        at="ctx_size",
    ),
    Mistake("array-in-array", "threads = 2", "threads = [[2]]", ERROR, "", ""),
    Mistake("table-as-value", "threads = 2", "threads = { a = 2 }", ERROR, "", ""),
    Mistake(
        "negative-time", 'gpu_ids = "1"', 'gpu_ids = "1"\nready_timeout_s = -5', ERROR, "", "", at="ready_timeout_s"
    ),
    Mistake(
        "bad-policy", 'gpu_ids = "1"', 'gpu_ids = "1"\nrestart = "sometimes"', ERROR, "'always'", "", at="restart"
    ),
    Mistake(
        "no-such-binary",
        'llama_cpp_path = "{server}"',
        'llama_cpp_path = "/nowhere/llama-server"',
        ERROR,
        "does not exist",
        "path",
    ),
]
MODELS = [
    Mistake("model-misspelt", "chat.gguf", "caht.gguf", ERROR, "", "chat.gguf", at="caht"),
    Mistake("mount-forgotten", "{folder}/chat.gguf", "/llm-models/chat/chat.gguf", ERROR, "", "mount"),
    Mistake("folder-for-a-model", "{folder}/chat.gguf", "{folder}", ERROR, "folder", "", at='model = "{folder}"'),
    Mistake("second-shard-named", "big-00001", "big-00002", ERROR, "", "00001"),
    Mistake("shard-missing", "{folder}/big-", "{folder}/gap/big-", ERROR, "00002", ""),
    Mistake("shard-truncated", "{folder}/big-", "{folder}/short/big-", ERROR, "", "again"),
    Mistake("shards-swapped", "{folder}/big-", "{folder}/swapped/big-", ERROR, "", ""),
    Mistake("shard-of-another", "{folder}/big-", "{folder}/other/big-", ERROR, "", ""),
    Mistake("model-truncated", "chat.gguf", "cut.gguf", ERROR, "", "again"),
    Mistake("web-page", "chat.gguf", "page.gguf", ERROR, "", ""),
    Mistake("lfs-pointer", "chat.gguf", "pointer.gguf", ERROR, "", "lfs"),
    Mistake("empty-file", "chat.gguf", "empty.gguf", ERROR, "empty", ""),
    Mistake("safetensors", "chat.gguf", "weights.safetensors", ERROR, "", ".gguf"),
    Mistake("ctx-above-trained", "ctx_size = 2048", "ctx_size = 65536", WARNING, "2048", "", at="ctx_size = 65536"),
    Mistake("mmproj-missing", "threads = 2", 'mmproj = "{folder}/mmproj.gguf"', ERROR, "", ""),
    Mistake("draft-missing", "threads = 2", 'model_draft = "{folder}/draft.gguf"', ERROR, "", ""),
    Mistake("lora-is-a-model", "threads = 2", 'lora = "{folder}/chat.gguf"', ERROR, "", ""),
]


GPUS_NAMED = [
    Mistake("no-such-gpu", 'gpu_ids = "1"', 'gpu_ids = "7"', ERROR, "no GPU 7", "0, 1"),
    Mistake("second-id-wrong", 'gpu_ids = "1"', "gpu_ids = [0, 7]", ERROR, "only 0", "infer-dev gpus"),
    Mistake("no-such-uuid", 'gpu_ids = "1"', 'gpu_ids = "GPU-99999999"', ERROR, "GPU-99999999", "GPU-1111"),
    Mistake("same-gpu-twice", 'gpu_ids = "1"', 'gpu_ids = "1,GPU-22222222"', ERROR, "", ""),
    Mistake("main-gpu-from-outside", "threads = 2", 'split_mode = "none"\nmain_gpu = 1', WARNING, "", ""),
    Mistake("split-for-more", "threads = 2", 'tensor_split = "1,1"', WARNING, "", ""),
    Mistake("device-from-outside", "threads = 2", 'device = "CUDA1"', ERROR, "CUDA1", "count from 0"),
]
GPUS = Inventory(
    driver="570.124.06",
    cuda=(12, 8),
    gpus=tuple(
        Gpu(
            index=index,
            uuid=f"GPU-{str(index + 1) * 8}-2222-3333-4444-555555555555",
            name="NVIDIA RTX",
            memory_total_bytes=24 << 30,
            memory_free_bytes=23 << 30,
            memory_used_bytes=1 << 30,
            compute_mode="default",
        )
        for index in range(2)
    ),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, whole and broken."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "logs").mkdir()
    tiny_model.write(folder / "chat.gguf")
    shards = tiny_model.write_shards(folder / "big.gguf", tensors_per_shard=8)
    assert len(shards) == 3
    for name in ("gap", "short", "swapped", "other"):
        (folder / name).mkdir()
        for shard in shards:
            shutil.copy(shard, folder / name)
    (folder / "gap" / shards[1].name).unlink()
    os.truncate(folder / "short" / shards[2].name, shards[2].stat().st_size - 100)
    shutil.copy(shards[1], folder / "swapped" / shards[2].name)
    shutil.copy(shards[2], folder / "swapped" / shards[1].name)
    others = tiny_model.write_shards(folder / "else.gguf", tensors_per_shard=10, blocks=3)
    shutil.copy(others[1], folder / "other" / shards[1].name)
    shutil.copy(folder / "chat.gguf", folder / "cut.gguf")
    os.truncate(folder / "cut.gguf", 300_000)
    (folder / "page.gguf").write_text("<!DOCTYPE html><html><body>Sign in</body></html>")
    (folder / "pointer.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    (folder / "empty.gguf").touch()
    (folder / "weights.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


@pytest.fixture
def checked(
    tmp_path: Path, models: Path, parts: Parts, cache_folder: Path
) -> Callable[[str, str], tuple[str, Report]]:
    ports = iter((18761, 18762))
    values = {"server": parts.server, "folder": str(models), "port_a": str(next(ports)), "port_b": str(next(ports))}

    def check(right: str = "", wrong: str = "") -> tuple[str, Report]:
        assert FILE.count(right) >= 1
        text = FILE.replace(right, wrong, 1) if right else FILE
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        file = tmp_path / "rack.toml"
        file.write_text(text)
        environ = {"PATH": os.environ["PATH"], "INFER_DEV_CACHE_DIR": str(cache_folder)}
        known = Facts(environ=environ, gpus=GPUS, build=Build(path=parts.server, missing={}))
        return text, examine(source_of_caller(str(file), environ), known)

    return check


def bad(report: Report) -> Iterator[Finding]:
    return (one for one in report.findings if one.level is not NOTE)


@pytest.mark.real
def test_right_file_has_no_finding(checked: Callable[..., tuple[str, Report]]) -> None:
    _, report = checked()
    assert list(bad(report)) == []


@pytest.mark.real
@pytest.mark.parametrize("mistake", [*OPTIONS, *CONTRACT, *MODELS, *GPUS_NAMED], ids=lambda mistake: mistake.name)
def test_mistake_is_found_at_its_line(
    checked: Callable[..., tuple[str, Report]], mistake: Mistake, models: Path
) -> None:
    text, report = checked(mistake.right, mistake.wrong)
    wrong, at = (one.replace("{folder}", str(models)) for one in (mistake.wrong, mistake.at or mistake.wrong))
    line = text[: text.index(at.splitlines()[-1], text.index(wrong))].count("\n") + 1
    found = [(one.level, one.place.line, one.message, one.hint) for one in bad(report)]
    assert [one for one in bad(report) if one.place.line == line and one.level is mistake.level
            and mistake.says in one.message and mistake.fix in one.hint], found  # fmt: skip
    assert all(one.place.line == line for one in bad(report)), found
