"""A real GGUF model of 520 KB: random weights, but every part that llama-server needs to load and answer.

Its text is noise. It is a Llama of two blocks with a byte-level vocabulary, so any prompt can be
tokenised. The same parameters give the same bytes on every machine.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from tests.parts import PartsError

if TYPE_CHECKING:
    from gguf import GGUFWriter

EMBEDDING = 64
FEED_FORWARD = 128
HEADS = 4
CONTEXT_TOKENS = 2048
WEIGHT_SCALE = 0.05
SEED = 7
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}assistant:"
MAX_BLOCKS = 512
"""llama.cpp's own limit (LLAMA_MAX_LAYERS)."""

EMBEDDING_ARGUMENTS = ("--embeddings", "--pooling", "mean")
"""What llama-server needs besides `--model` to answer /v1/embeddings with this model."""


def ensure(cache: Path, *, blocks: int = 2) -> Path:
    """The model in `cache`/models, written if it is missing: `tiny.gguf`, or `tiny-<blocks>.gguf`.

    Raises:
        PartsError: the `gguf` package is missing.
    """
    path = cache.absolute() / "models" / ("tiny.gguf" if blocks == 2 else f"tiny-{blocks}.gguf")
    if not path.exists():
        write(path, blocks=blocks)
    return path


def write(path: Path, *, blocks: int = 2, feed_forward: int = FEED_FORWARD) -> None:
    """Writes one file of about 200 KB + 160 KB a block. More or wider blocks load more slowly.

    Ready on two cores: 2 blocks 50 ms, 512 blocks (85 MB) 2.2 s.

    The file appears complete or not at all, so two writers at once do no harm.
    """
    _write(path, blocks=blocks, feed_forward=feed_forward, tensors_per_shard=0)


def write_shards(path: Path, *, tensors_per_shard: int, blocks: int = 2) -> list[Path]:
    """Writes the model as `<stem>-00001-of-0000N.gguf` and so on beside `path`, and returns the files.

    llama-server is given the first. Two blocks have 21 tensors.
    """
    return _write(path, blocks=blocks, feed_forward=FEED_FORWARD, tensors_per_shard=tensors_per_shard)


def _write(path: Path, *, blocks: int, feed_forward: int, tensors_per_shard: int) -> list[Path]:
    try:
        # Imported at need: it brings numpy, and a model that exists needs neither.
        from gguf import GGUFWriter  # noqa: PLC0415
    except ImportError as err:
        raise PartsError(
            f"cannot write {path.name}: {err}", hint="pip install 'infer-dev[parts]' (the packages gguf and numpy)"
        ) from err
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
    try:
        writer = GGUFWriter(building / path.name, "llama", split_max_tensors=tensors_per_shard)
        shape = Shape(size=EMBEDDING, heads=HEADS, blocks=blocks, feed_forward=feed_forward)
        describe(writer, shape, words=vocabulary(), template=CHAT_TEMPLATE)
        _fill(writer, blocks=blocks, feed_forward=feed_forward)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        made = sorted(building.iterdir())
        for file in made:
            os.replace(file, path.parent / file.name)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return [path.parent / file.name for file in made]


def vocabulary() -> list[tuple[bytes, float, int]]:
    """Token text, score and type (llama.cpp: 1 normal, 2 unknown, 3 control, 6 byte), by token id."""
    special = [(b"<unk>", 0.0, 2), (b"<s>", 0.0, 3), (b"</s>", 0.0, 3)]
    octets = [(f"<0x{octet:02X}>".encode(), 0.0, 6) for octet in range(256)]
    # SentencePiece writes a space as U+2581.
    space = [("\u2581".encode(), -1.0, 1)]
    printable = [(bytes([octet]), -1.0 - octet / 1000, 1) for octet in range(0x21, 0x7F)]
    return special + octets + space + printable


@dataclass(frozen=True, slots=True)
class Shape:
    """How wide and deep a model is."""

    size: int
    heads: int
    blocks: int
    feed_forward: int


def describe(writer: GGUFWriter, shape: Shape, *, words: list[tuple[bytes, float, int]], template: str) -> None:
    """Writes a Llama's header; `words` as `vocabulary` has them."""
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(shape.size)
    writer.add_block_count(shape.blocks)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.size // shape.heads)
    tokens, scores, types = zip(*words, strict=True)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(template)


def _fill(writer: GGUFWriter, *, blocks: int, feed_forward: int) -> None:
    import numpy as np  # noqa: PLC0415

    # RandomState's stream is frozen (NEP 19); default_rng's may change between numpy releases.
    random = np.random.RandomState(SEED)

    def weight(name: str, *shape: int) -> None:
        values = random.standard_normal(shape) * WEIGHT_SCALE
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(EMBEDDING, dtype=np.float32))

    words = len(vocabulary())
    weight("token_embd", words, EMBEDDING)
    norm("output_norm")
    weight("output", words, EMBEDDING)
    for block in range(blocks):
        norm(f"blk.{block}.attn_norm")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weight(f"blk.{block}.{part}", EMBEDDING, EMBEDDING)
        norm(f"blk.{block}.ffn_norm")
        weight(f"blk.{block}.ffn_gate", feed_forward, EMBEDDING)
        weight(f"blk.{block}.ffn_up", feed_forward, EMBEDDING)
        weight(f"blk.{block}.ffn_down", EMBEDDING, feed_forward)
