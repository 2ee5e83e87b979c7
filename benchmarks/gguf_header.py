"""The header of a model with a large vocabulary, ours beside the `gguf` package; then 64 of them once more."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

from benchmarks.paired import interleaved
from benchmarks.report import Row, row
from benchmarks.stage import BenchmarkError, Stage
from infer_dev.llama_cpp.gguf.header import Array, read_header
from infer_dev.llama_cpp.gguf.library import Library

TOKENS = 250_000
BLOCKS = 64
MODELS = 64
MOST_RATIO = 0.1
MOST_MS = 50.0
MOST_RACK_MS = 300.0
MOST_PAIRS = 5  # the peer takes seconds, and GGUFReader so many that one pair has to do
SEED = 1
LONG_AGO_S = 1_000_000_000  # a file just written is not kept


def measure(stage: Stage, runs: int) -> list[Row]:
    path = stage.folder / "large.gguf"
    _write(path)
    seen: list[int] = []

    def peer() -> None:
        seen.append(len(GGUFReader(path).tensors))

    header = read_header(str(path))
    against_peer = interleaved(lambda: _ms(lambda: read_header(str(path))), lambda: _ms(peer), runs=1, warm_up=0)
    tokens = header.metadata["tokenizer.ggml.tokens"]
    if not isinstance(tokens, Array) or tokens.count != TOKENS or seen != [len(header.tensors)]:
        raise BenchmarkError("cannot measure the header: ours and the peer read something else")
    alone = interleaved(lambda: _ms(lambda: read_header(str(path))), lambda: _ms(path.read_bytes), runs=runs)
    rack = [str(stage.folder / f"{index}.gguf") for index in range(MODELS)]
    for one in rack:
        os.link(path, one)
    kept = str(stage.folder / "kept")
    again = interleaved(
        lambda: _ms(lambda: _read_all(rack, kept)),
        lambda: _ms(lambda: _read_all(rack, "")),
        runs=min(runs, MOST_PAIRS),
        warm_up=1,
    )
    what = f"header, {TOKENS} tokens with merges"
    return [
        row("gguf-header", f"{what} | GGUFReader", against_peer, kind="ratio", bound=MOST_RATIO),
        row("gguf-header", f"{what} | the file's bytes alone", alone, kind="value", bound=MOST_MS),
        row("gguf-header", f"{MODELS} of them once more | read anew", again, kind="value", bound=MOST_RACK_MS),
    ]


def _read_all(paths: list[str], folder: str) -> None:
    library = Library(folder)
    for path in paths:
        library.model(path)


def _ms(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def _write(path: Path) -> None:
    """A model of 64 blocks, its texts as long as those of real vocabularies: 7 bytes, and 11 for a merge."""
    rng = random.Random(SEED)
    texts = [
        f"{index:x}"[: rng.randrange(2, 5)] + "x" * min(40, int(rng.expovariate(0.25))) for index in range(TOKENS)
    ]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(131_072)
    writer.add_block_count(BLOCKS)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(texts)
    writer.add_token_scores([0.5] * TOKENS)
    writer.add_token_types([1] * TOKENS)
    writer.add_token_merges([f"{text[:6]} {text[-4:]}" for text in texts])
    for block in range(BLOCKS):
        for part in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up"):
            writer.add_tensor(f"blk.{block}.{part}.weight", np.zeros(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
