"""A model's weights, summed up by what decides on their device: a rack of models has 60,000 tensors."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infer_dev.llama_cpp.gguf.header import Tensor

REPACKED = frozenset({"Q4_0", "Q4_K", "Q2_K", "IQ4_NL", "MXFP4"})
"""Types that a CPU may have rearranged when loaded (ggml/src/ggml-cpu/repack.cpp); which do depends on the CPU."""
HOST = -1
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
_EXPERTS = re.compile(r"ffn_(up|down|gate|gate_up)_(ch|)exps")
_DENSE = re.compile(r"ffn_(up|down|gate)\.")


class Kind(StrEnum):
    """What a tensor is, as far as its place depends on it."""

    INPUT = "input"
    EMBEDDING = "embedding"
    OUTPUT = "output"
    EXPERTS = "experts"
    DENSE = "dense"
    REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Tensors that go together.

    Attributes:
        layer: whose; -1: of none.
        kind: what they are.
        is_repacked: a CPU may rearrange them.
        device: where an option sends them by name; None: as usual.
        size_bytes: of all.
    """

    layer: int
    kind: Kind
    is_repacked: bool
    device: int | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A model's weights.

    Attributes:
        rows: what goes together.
        is_tied: the embedding is the output matrix, too.
    """

    rows: tuple[Row, ...]
    is_tied: bool


def weights_of(tensors: Sequence[Tensor], overrides: Sequence[tuple[str, str]] = ()) -> Weights:
    """Sum up.

    Args:
        tensors: of all shards.
        overrides: (pattern of names, buffer type such as CPU or CUDA0), the first match counts.
    """
    patterns = tuple(_patterns(overrides))
    sizes: Counter[tuple[int, Kind, bool, int | None]] = Counter()
    for tensor in tensors:
        layer, kind = _kind(tensor.name)
        device = next((device for pattern, device in patterns if pattern.search(tensor.name)), None)
        sizes[layer, kind, tensor.type_name in REPACKED, device] += tensor.size_bytes
    rows = (
        Row(layer=layer, kind=kind, is_repacked=is_repacked, device=device, size_bytes=size)
        for (layer, kind, is_repacked, device), size in sizes.items()
    )
    return Weights(rows=tuple(rows), is_tied=all(tensor.name != "output.weight" for tensor in tensors))


def _kind(name: str) -> tuple[int, Kind]:
    block, _, rest = name.partition(".")
    number, _, rest = rest.partition(".")
    if block == "blk" and number.isdigit():
        if rest.startswith("ffn_"):
            kind = Kind.EXPERTS if _EXPERTS.match(rest) else Kind.DENSE if _DENSE.match(rest) else Kind.REST
            return int(number), kind
        return int(number), Kind.REST
    if name.startswith("output"):
        return -1, Kind.OUTPUT
    return -1, Kind.EMBEDDING if name == "token_embd.weight" else Kind.INPUT


def _patterns(overrides: Sequence[tuple[str, str]]) -> Iterator[tuple[re.Pattern[str], int]]:
    for pattern, buffer in overrides:
        number = buffer.lstrip(LETTERS)
        device = HOST if buffer.startswith("CPU") or not number.isdigit() else int(number)
        with contextlib.suppress(re.error):  # C++'s grammar differs a little; what cannot be read changes nothing
            yield re.compile(pattern), device
