"""Writes models whose weights are all zero: small files with holes, for what llama-server reserves.

A file takes some 300 KB of disk, whatever its size.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.parts import PartsError
from tests.parts.tiny_model import vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gguf import GGUFWriter

EMBEDDING = 512
WORDS = 16384

ALWAYS_F32 = (".bias", "conv", "ssm_norm", "gate_inp", "types")
"""Parts of names of matrices that llama.cpp keeps in f32."""

Values = dict[str, Any]  # Any: what GGUF can hold: numbers, texts, truth values and lists of them
Tensor = tuple[str, tuple[int, ...]]
"""Name and shape, the slowest dimension first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What a file is made of.

    Attributes:
        arch: `general.architecture`.
        values: metadata; keys without the architecture in front.
        tensors: without embedding, output and norms at the end.
        weights: GGUF type of the tensors of two and more dimensions.
        tied: the embedding serves as the output matrix, too.
        extra: tensors that are not of a block.
    """

    arch: str
    values: Values
    tensors: Sequence[Tensor]
    weights: str = "F16"
    tied: bool = False
    extra: Sequence[Tensor] = field(default=(("output_norm.weight", (EMBEDDING,)),))


def write(path: Path, made: Architecture) -> None:
    """Write a model of nothing but zeros; it appears complete or not at all.

    Raises:
        PartsError: the `gguf` package is missing.
    """
    try:
        # Imported at need: it brings numpy.
        import gguf  # noqa: PLC0415
        import numpy as np  # noqa: PLC0415
    except ImportError as err:
        raise PartsError(
            f"cannot write {path.name}: {err}", hint="pip install 'infer-dev[parts]' (the packages gguf and numpy)"
        ) from err
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}-{os.getpid()}")
    writer = gguf.GGUFWriter(building, made.arch)
    _describe(writer, made)
    ends = [("token_embd.weight", (WORDS, EMBEDDING))]
    ends += [] if made.tied else [("output.weight", (WORDS, EMBEDDING))]
    size = 0
    for name, shape in (*ends, *made.extra, *made.tensors):
        plain = len(shape) == 1 or name.endswith(("ssm_a", "ssm_d")) or any(part in name for part in ALWAYS_F32)
        kind = gguf.GGMLQuantizationType.F32 if plain else gguf.GGMLQuantizationType[made.weights]
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        held = int(np.prod(shape)) // block * block_bytes
        writer.add_tensor_info(name, shape, np.dtype(np.float32), held, raw_dtype=kind)
        size += gguf.GGUFWriter.ggml_pad(held, writer.data_alignment)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    begin = gguf.GGUFWriter.ggml_pad(building.stat().st_size, writer.data_alignment)
    os.truncate(building, begin + size)
    building.replace(path)


def _describe(writer: GGUFWriter, made: Architecture) -> None:
    for key, value in made.values.items():
        name = f"{made.arch}.{key}"
        match value:
            case bool():
                writer.add_bool(name, value)
            case int():
                writer.add_uint32(name, value)
            case float():
                writer.add_float32(name, value)
            case list():
                writer.add_array(name, value)
    words = vocabulary()
    words += [(f"w{number}".encode(), -2.0 - number, 1) for number in range(WORDS - len(words))]
    tokens, scores, types = zip(*words, strict=True)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_token_type_count(2)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
