"""A real GGUF model that says what it was told to: for answers that noise never gives, such as a tool call.

llama-server runs it as any other model. Each token leads to one next token only, whatever stood before it: a token's
embedding is one axis of the space, its successor's output weights are the same axis, and the block between does
nothing. What it says depends on the last character of the prompt, which is the chat template's to choose.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tests.parts import tiny_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gguf import GGUFWriter

SIZE = 256
HEADS = 4
CERTAIN = 10.0
END = 2
"""The id of `</s>`."""

SHORTEST_PIECE = 3


def write(path: Path, scripts: Mapping[str, str], template: str) -> None:
    """Writes a model of about 2 MB.

    Args:
        scripts: by the prompt's last character (printable ASCII, in no script) the text that follows it.
        template: the chat template (Jinja).

    Raises:
        ValueError: the scripts are too long for the model, or hold a character that starts one.
    """
    from gguf import GGUFWriter  # noqa: PLC0415 - it brings numpy

    pieces = _pieces(scripts)
    if 1 + sum(map(len, pieces.values())) + len(scripts) > SIZE or set("".join(scripts.values())) & set(scripts):
        raise ValueError("cannot script a model: too much text, or a start's character is in it")
    writer = GGUFWriter(path, "llama")
    said = [piece for script in pieces.values() for piece in script]
    shape = tiny_model.Shape(size=SIZE, heads=HEADS, blocks=1, feed_forward=SIZE)
    tiny_model.describe(writer, shape, words=_words(said), template=template)
    _fill(writer, pieces)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _words(said: list[str]) -> list[tuple[bytes, float, int]]:
    # A low score: the tokeniser prefers to take a prompt apart.
    own = [(piece.replace(" ", "\u2581").encode(), -1000.0, 1) for piece in said]
    return tiny_model.vocabulary() + own


def _pieces(scripts: Mapping[str, str]) -> dict[str, list[str]]:
    """Each script cut in pieces that stand in no other place: each is a token of its own."""
    known: set[str] = set()
    found: dict[str, list[str]] = {}
    for start, text in scripts.items():
        pieces: list[str] = []
        begin = 0
        while begin < len(text):
            end = begin + SHORTEST_PIECE
            while text[begin:end] in known and end < len(text):
                end += 1
            if text[begin:end] in known or len(text) - end < SHORTEST_PIECE:
                end = len(text)
            pieces.append(text[begin:end])
            known.add(text[begin:end])
            begin = end
        found[start] = pieces
    return found


def _fill(writer: GGUFWriter, pieces: Mapping[str, list[str]]) -> None:
    import numpy as np  # noqa: PLC0415

    vocabulary = tiny_model.vocabulary()
    words = len(vocabulary) + sum(map(len, pieces.values()))
    ids = {text: number for number, (text, _, kind) in enumerate(vocabulary) if kind == 1}
    # Axis 0 is every token's that nothing follows from; it leads to the end.
    embedding = np.zeros((words, SIZE), dtype=np.float32)
    output = np.zeros((words, SIZE), dtype=np.float32)
    embedding[:, 0] = 1.0
    output[END, 0] = CERTAIN
    axis, said = 1, len(vocabulary)
    for start, script in pieces.items():
        chain = [ids[start.encode()], *range(said, said + len(script)), END]
        for token, following in itertools.pairwise(chain):
            embedding[token] = 0.0
            embedding[token, axis] = 1.0
            output[following, axis] = CERTAIN
            axis += 1
        said += len(script)
    blank = np.zeros((SIZE, SIZE), dtype=np.float32)
    ones = np.ones(SIZE, dtype=np.float32)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", ones)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", blank)
