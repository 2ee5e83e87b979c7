"""What the check calls an error of a model's files, the real llama-server ends with; with all else it comes up."""

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from infer_dev.check.finding import Level
from infer_dev.check.models.files import model_findings
from infer_dev.llama_cpp.gguf.library import Library
from tests.conftest import eventually
from tests.parts import gguf_bytes as raw
from tests.parts import tiny_model
from tests.unit.test_check_models import subject_of, write

ARCHITECTURE = raw.pair("general.architecture", raw.STRING, "llama")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, parts) -> Path:
    """Good files, and one of each kind of bad ones."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(parts.model, folder / "tiny.gguf")
    for name in ("set", "swapped", "lacking", "mixed"):
        tiny_model.write_shards(folder / f"{name}.gguf", tensors_per_shard=8)
    one, other, saved = (folder / f"swapped-0000{n}-of-00003.gguf" for n in (2, 3, 4))
    one.rename(saved)
    other.rename(one)
    saved.rename(other)
    (folder / "lacking-00003-of-00003.gguf").unlink()
    shutil.copy(parts.model, folder / "mixed-00002-of-00003.gguf")
    shutil.copy(folder / "set-00001-of-00003.gguf", folder / "renamed.gguf")
    whole = Path(parts.model).read_bytes()
    (folder / "cut.gguf").write_bytes(whole[:-1])
    (folder / "cut-in-header.gguf").write_bytes(whole[:3000])
    (folder / "longer.gguf").write_bytes(whole + bytes(1000))
    (folder / "version-1.gguf").write_bytes(whole[:4] + b"\1" + whole[5:])
    (folder / "empty.gguf").write_bytes(b"")
    (folder / "no-tensors.gguf").write_bytes(raw.header([ARCHITECTURE], []))
    (folder / "no-architecture.gguf").write_bytes(raw.header([], [raw.tensor("a", (8,), 0, 0)]) + bytes(32))
    (folder / "doubled.gguf").write_bytes(whole.replace(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight", 1))
    (folder / "doubled-key.gguf").write_bytes(raw.header([ARCHITECTURE, ARCHITECTURE], []))
    (folder / "big-endian.gguf").write_bytes(b"GGUF\0\0\0\3" + bytes(64))
    write(folder / "mmproj.gguf", "clip", lambda writer: writer.add_type("mmproj"))
    write(folder / "lora.gguf", "qwen3", lambda writer: writer.add_type("adapter"))
    return folder


def comes_up(parts, folder: Path, port: int, options: dict[str, str]) -> bool:
    """Whether the real server gets to serve; False: it has ended."""
    argv = [parts.server, "--port", str(port), "--host", "127.0.0.1"]
    argv += [word for name, value in options.items() for word in (f"--{name}", value)]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(argv, cwd=folder, stdin=quiet, stdout=quiet, stderr=quiet)

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    try:
        return eventually(lambda: "ended" if server.poll() is not None else is_ready() and "ready") == "ready"
    finally:
        server.kill()
        server.wait()


@pytest.mark.real
@pytest.mark.parametrize(
    "options",
    [
        {"model": "tiny.gguf"},
        {"model": "longer.gguf"},
        {"model": "set-00001-of-00003.gguf"},
        {"model": "tiny.gguf", "ctx-size": "100000", "parallel": "1"},
        {"model": "tiny.gguf", "control-vector": "none.gguf"},
        {"model": "tiny.gguf", "control-vector": "tiny.gguf"},
        {"model": "tiny.gguf", "model-draft": "set-00001-of-00003.gguf"},
        {"model": "none.gguf"},
        {"model": "."},
        {"model": "set-00002-of-00003.gguf"},
        {"model": "swapped-00001-of-00003.gguf"},
        {"model": "lacking-00001-of-00003.gguf"},
        {"model": "mixed-00001-of-00003.gguf"},
        {"model": "renamed.gguf"},
        {"model": "cut.gguf"},
        {"model": "cut-in-header.gguf"},
        {"model": "version-1.gguf"},
        {"model": "empty.gguf"},
        {"model": "no-tensors.gguf"},
        {"model": "no-architecture.gguf"},
        {"model": "doubled.gguf"},
        {"model": "doubled-key.gguf"},
        {"model": "big-endian.gguf"},
        {"model": "mmproj.gguf"},
        {"model": "lora.gguf"},
        {"model": "tiny.gguf", "mmproj": "tiny.gguf"},
        {"model": "tiny.gguf", "mmproj": "none.gguf"},
        {"model": "tiny.gguf", "lora": "tiny.gguf"},
        {"model": "tiny.gguf", "lora": "lora.gguf"},
        {"model": "tiny.gguf", "lora": "none.gguf"},
        {"model": "tiny.gguf", "lora-scaled": "none.gguf:0.5"},
        {"model": "tiny.gguf", "model-draft": "none.gguf"},
        {"model": "tiny.gguf", "model-draft": "mmproj.gguf"},
    ],
    ids=lambda options: " ".join(f"{name}={value}" for name, value in options.items()),
)
def test_an_error_is_what_the_real_server_ends_with(parts, folder, free_port, options):
    server = "\n".join(f'"{name}" = "{value}"' for name, value in options.items())
    found = list(model_findings(subject_of(folder, server), Library("")))
    told = [one for one in found if one.level is Level.ERROR]
    assert comes_up(parts, folder, free_port(), options) == (not told), found
    assert all(os.path.basename(one.place.file) == "file.toml" for one in found)
