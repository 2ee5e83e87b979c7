"""What the real llama-server reports to have allocated, beside what infer-dev estimates.

`python -m tests.parts.load_report` prints the table of docs/memory.md.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from infer_dev.llama_cpp.gguf.model import read_model
from infer_dev.llama_cpp.memory.estimate import Estimate, Load, Part
from infer_dev.llama_cpp.memory.fit import estimate
from infer_dev.llama_cpp.memory.settings import settings_of
from infer_dev.llama_cpp.memory.shape import shape_of
from infer_dev.llama_cpp.memory.weights import weights_of
from tests.parts import DEFAULT_CACHE, PartsError, architectures, hollow_model, llama_bundle

MIB = 1024 * 1024
DEADLINE_S = 60.0
POLL_S = 0.02
LOADED = "model loaded"
_BUFFER = re.compile(r" (model|KV|RS|compute|output) buffer size = +([0-9.]+) MiB")
_KINDS = {"model": "weights", "KV": "cache", "RS": "cache", "compute": "compute", "output": "output"}

CASES: tuple[tuple[str, dict[str, str]], ...] = (
    ("llama", {"ctx-size": "4096"}),
    ("llama", {}),
    ("llama", {"ctx-size": "4096", "parallel": "4"}),
    ("llama", {"ctx-size": "1000", "parallel": "3"}),
    ("llama", {"ctx-size": "4096", "parallel": "3", "kv-unified": ""}),
    ("llama", {"ctx-size": "4096", "flash-attn": "off"}),
    ("llama", {"ctx-size": "8192", "ubatch-size": "128", "parallel": "1"}),
    ("llama", {"embeddings": "", "parallel": "1"}),
    ("llama-mha", {"ctx-size": "8192", "cache-type-k": "q8_0", "cache-type-v": "q8_0"}),
    ("llama-mha", {"ctx-size": "4096", "cache-type-k": "q4_0", "cache-type-v": "q5_1", "flash-attn": "on"}),
    ("llama-q4", {"ctx-size": "4096"}),
    ("qwen2", {"ctx-size": "8192", "parallel": "2"}),
    ("gemma2", {"ctx-size": "4096", "flash-attn": "off"}),
    ("gemma3", {"ctx-size": "8192", "parallel": "2"}),
    ("gemma3", {"ctx-size": "8192", "swa-full": ""}),
    ("phi3", {"ctx-size": "4096"}),
    ("qwen3moe", {"ctx-size": "8192", "ubatch-size": "1024"}),
    ("mixtral", {"ctx-size": "4096"}),
    ("gpt-oss", {"ctx-size": "8192"}),
    ("deepseek2", {"ctx-size": "8192", "parallel": "1"}),
    ("deepseek2", {"ctx-size": "4096", "flash-attn": "off"}),
    ("mamba", {"parallel": "1"}),
    ("mamba", {"parallel": "16"}),
    ("jamba", {"ctx-size": "8192", "parallel": "2"}),
    ("lfm2", {"ctx-size": "8192"}),
    ("granitehybrid", {"ctx-size": "4096"}),
    ("qwen3next", {"ctx-size": "4096"}),
    ("qwen3next", {"ctx-size": "8192", "parallel": "8"}),
    ("bert", {"embeddings": "", "ubatch-size": "1024"}),
)


@dataclass(frozen=True, slots=True)
class Report:
    """MiB as the server prints them."""

    weights: float
    cache: float
    compute: float
    output: float

    @property
    def total(self) -> float:
        return self.weights + self.cache + self.compute + self.output


def reported(server: str, model: Path, options: dict[str, str], folder: Path) -> Report:
    """Load a model by the real server, which listens on a socket in `folder` and is ended again.

    Raises:
        PartsError: it does not load; its log is told.
    """
    address, log = folder / "s.sock", folder / "server.log"
    address.unlink(missing_ok=True)
    words = [word for key, value in options.items() for word in (f"--{key}", value) if word]
    argv = [server, "--model", str(model), "--host", str(address), "--verbosity", "4", "--no-warmup", *words]
    with log.open("wb") as file:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + DEADLINE_S
        text = ""
        while LOADED not in text and process.poll() is None and time.monotonic() < end:
            time.sleep(POLL_S)
            text = log.read_text(errors="replace")
    finally:
        process.kill()
        process.wait()
    if LOADED not in text:
        faults = [line for line in text.splitlines() if " E " in line or "ASSERT" in line or "unsupported" in line]
        raise PartsError(f"cannot load {model.name} with {words}: {faults[:3]}", hint="run llama-server by hand")
    sizes = dict.fromkeys(("weights", "cache", "compute", "output"), 0.0)
    for kind, size in _BUFFER.findall(text):
        sizes[_KINDS[kind]] += float(size)
    return Report(**sizes)


def estimated(model: Path, options: dict[str, str]) -> Estimate:
    """The estimate without a GPU."""
    read = read_model(str(model))
    shape = shape_of(read)
    if shape is None:
        raise PartsError(f"cannot tell the shape of {model.name}", hint="does it have block_count?")
    part = Part(shape=shape, weights=weights_of(read.tensors), settings=settings_of(options))
    return estimate(Load(model=part), ())


def main() -> int:
    server = str(llama_bundle.ensure(DEFAULT_CACHE))
    print("| model | options | weights | cache | compute | output | total | error |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    made = architectures.named()
    with TemporaryDirectory() as name:
        folder = Path(name)
        for model, options in CASES:
            path = folder / f"{model}.gguf"
            hollow_model.write(path, made[model])
            print(_row(model, options, estimated(path, options), reported(server, path, options, folder)))
    return 0


def _row(model: str, options: dict[str, str], told: Estimate, report: Report) -> str:
    use = told.host
    pairs = (
        (use.weights, report.weights),
        (use.cache, report.cache),
        (use.compute, report.compute),
        (use.output, report.output),
        (use.total, report.total),
    )
    figures = " | ".join(f"{size / MIB:.1f} / {real:.1f}" for size, real in pairs)
    words = " ".join(f"{key} {value}".strip() for key, value in options.items()) or "none"
    return f"| {model} | {words} | {figures} | {100 * (use.total / MIB / report.total - 1):+.1f} % |"


if __name__ == "__main__":
    sys.exit(main())
