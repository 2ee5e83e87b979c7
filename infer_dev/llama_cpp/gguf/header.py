"""What a GGUF file says of itself: metadata and tensor table, without the weights.

The format: ggml's docs/gguf.md; what llama.cpp takes of it: ggml/src/gguf.cpp.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from struct import Struct
from typing import NamedTuple

from infer_dev.llama_cpp.gguf.error import Fault, GgufError
from infer_dev.llama_cpp.gguf.impostor import START_BYTES, impostor
from infer_dev.llama_cpp.gguf.source import OBJECT_BYTES, Source, open_regular
from infer_dev.llama_cpp.gguf.tensor_types import TENSOR_TYPES, tensor_type_name

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MOST_KEYS = 65_536
MOST_TENSORS = 65_536
MOST_KEY_BYTES = 65_535  # the format's own limit
MOST_NAME_BYTES = 63  # GGML_MAX_NAME less the NUL
MOST_NAME_BYTES_READ = 1024
MOST_DIMENSIONS = 4
MOST_TEXT_BYTES = 1024
MOST_DEFECTS = 16
MOST_BYTES_A_BYTE = 4  # an escape, or a text with one rare character in it
KEY_OR_TENSOR_BYTES = 450  # in memory, but for the name
MOST_ITEMS = 2048  # one a layer is wanted, and llama.cpp takes 512 layers
ALIGNMENT_KEY = "general.alignment"

_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_KINDS = ("u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "arr", "u64", "i64", "f64")
_GREATEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the metadata.

    Attributes:
        kind: of its items: u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, bool or str.
        count: of its items.
        items: numbers, if there are at most MOST_ITEMS; else None.
    """

    kind: str
    count: int
    items: tuple[bool | int | float, ...] | None


@dataclass(frozen=True, slots=True)
class LongText:
    """A text of more than MOST_TEXT_BYTES, a chat template mostly. It was not read."""

    size_bytes: int


Value = bool | int | float | str | Array | LongText


class Tensor(NamedTuple):
    """One row of the tensor table. A named tuple: a rack of large models has 60,000, and these are made fastest.

    Attributes:
        name: as in the file; bytes that are not UTF-8 as escapes.
        shape: elements in each dimension, the fastest first (ggml's `ne`); () for a single number.
        type_id: ggml's number of the type.
        type_name: e.g. Q4_K; "type N" if it is not known here.
        offset: of its first byte, counted from `Header.data_offset`.
        size_bytes: what it takes. If the type's size is not known: the room it has, up to the next one.
        has_known_size: whether `size_bytes` is certain.
    """

    name: str
    shape: tuple[int, ...]
    type_id: int
    type_name: str
    offset: int
    size_bytes: int
    has_known_size: bool

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        count = 1
        for one in self.shape:
            count *= one
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A file's header.

    Attributes:
        path: the file.
        size_bytes: of the whole file.
        version: of the format, 2 or 3.
        is_little_endian: whether its numbers are; llama.cpp takes only those of its own machine's order.
        metadata: key → value, in the file's order.
        tensors: the table, in the file's order.
        data_offset: where the weights begin, bytes from the file's start.
        alignment: of every tensor's offset, bytes.
        defects: what llama.cpp refuses though the header could be read; each as it continues the path after a colon.
    """

    path: str
    size_bytes: int
    version: int
    is_little_endian: bool
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int
    alignment: int
    defects: tuple[str, ...] = ()

    @property
    def needed_bytes(self) -> int:
        """How large the file must be at least to hold all tensors whose size is known."""
        ends = (one.offset + one.size_bytes for one in self.tensors if one.has_known_size)
        return self.data_offset + max(ends, default=0)

    @property
    def missing_bytes(self) -> int:
        """How much is missing at the file's end; 0 if it is whole."""
        return max(0, self.needed_bytes - self.size_bytes)

    def text(self, key: str) -> str:
        """A text; "" if there is none, or none that short."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""

    def integer(self, key: str) -> int | None:
        """A whole number, or None."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_header(path: str) -> Header:
    """The header of the file at `path`. Reads no weights, and takes a few MiB whatever the file says.

    Raises:
        GgufError: it cannot be read, or is no GGUF.
    """
    descriptor, size_bytes = open_regular(path)
    try:
        return _read(Source(path, descriptor, size_bytes))
    finally:
        os.close(descriptor)


def _read(source: Source) -> Header:
    version, is_little_endian = _read_version(source)
    tensor_count, key_count = source.u64(), source.u64()
    if key_count > MOST_KEYS or tensor_count > MOST_TENSORS:
        most = f"{MOST_KEYS} keys and {MOST_TENSORS} tensors"
        raise source.beyond_limits(f"it claims {key_count} keys and {tensor_count} tensors, more than {most}")
    metadata: dict[str, Value] = {}
    for _ in range(key_count):
        key = _read_text(source, MOST_KEY_BYTES, "a key")
        if not key or key in metadata:
            raise source.malformed(f"the key {key!r} stands there twice" if key else "a key is empty")
        metadata[key] = _read_value(source, key)
    alignment = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise source.malformed(f"its {ALIGNMENT_KEY} is {alignment}, no power of two")
    rows = [_read_tensor(source) for _ in range(tensor_count)]
    data_offset = -(-source.position // alignment) * alignment if rows else source.position
    if data_offset > source.size_bytes:
        raise source.cut_short()
    tensors, defects = _complete(rows, source.size_bytes - data_offset, alignment)
    return Header(
        path=source.path,
        size_bytes=source.size_bytes,
        version=version,
        is_little_endian=is_little_endian,
        metadata=metadata,
        tensors=tensors,
        data_offset=data_offset,
        alignment=alignment,
        defects=defects,
    )


def _read_version(source: Source) -> tuple[int, bool]:
    """The version, and whether the file is little-endian."""
    if source.size_bytes < len(MAGIC) or source.take(len(MAGIC)) != MAGIC:
        what, hint = impostor(source.peek(START_BYTES), source.size_bytes)
        raise GgufError(source.path, Fault.NOT_GGUF, what, hint=hint)
    version = source.u32()
    is_little_endian = version & 0xFFFF != 0
    if not is_little_endian:  # version 3 of the other order reads as 0x03000000
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
        source.use_byte_order(is_little_endian=False)
    if version in VERSIONS:
        return version, is_little_endian
    hint = "convert it again with today's llama.cpp" if version <= 1 else "is it damaged, or newer than infer-dev?"
    raise GgufError(source.path, Fault.VERSION, f"it is of GGUF version {version}", hint=hint)


def _read_text(source: Source, most: int, what: str) -> str:
    size = source.u64()
    if size > most:
        raise source.malformed(f"{what} of {size} bytes")
    source.keep(KEY_OR_TENSOR_BYTES + MOST_BYTES_A_BYTE * size)
    return source.take(size).decode(errors="backslashreplace")


def _read_value(source: Source, key: str) -> Value:
    kind = source.u32()
    if kind == _STRING:
        size = source.u64()
        if size > MOST_TEXT_BYTES:
            source.skip(size)
            return LongText(size)
        source.keep(OBJECT_BYTES + MOST_BYTES_A_BYTE * size)
        return source.take(size).decode(errors="backslashreplace")
    if kind == _ARRAY:
        return _read_array(source, key)
    if kind not in _NUMBERS:
        raise source.malformed(f"the value of {key!r} is of the unknown kind {kind}")
    return source.unpack(Struct(source.order + _NUMBERS[kind]))[0]


def _read_array(source: Source, key: str) -> Array:
    kind, count = source.u32(), source.u64()
    if kind == _STRING:
        source.skip_strings(count)
        return Array(_KINDS[kind], count, None)
    if kind not in _NUMBERS:
        raise source.malformed(
            f"the array {key!r} is of {_KINDS[kind] if kind < len(_KINDS) else f'the unknown kind {kind}'}"
        )
    one = Struct(source.order + _NUMBERS[kind])
    if count > MOST_ITEMS:
        source.skip(one.size * count)
        return Array(_KINDS[kind], count, None)
    source.keep(OBJECT_BYTES * count)
    return Array(_KINDS[kind], count, source.unpack(Struct(f"{source.order}{count}{_NUMBERS[kind]}")))


@cache
def _row_after_name(order: str, dimensions: int) -> Struct:
    return Struct(f"{order}{dimensions}QIQ")


def _read_tensor(source: Source) -> Tensor:
    """A row as it stands; its size is filled in where the table is complete."""
    name = _read_text(source, MOST_NAME_BYTES_READ, "a tensor's name")
    dimensions = source.u32()
    if dimensions > MOST_DIMENSIONS:
        raise source.malformed(f"the tensor {name!r} has {dimensions} dimensions")
    *shape, type_id, offset = source.take_integers(_row_after_name(source.order, dimensions))
    if max(offset, *shape, 0) > _GREATEST:
        raise source.malformed(f"the tensor {name!r} is of negative size or place")
    return Tensor(name, tuple(shape), type_id, tensor_type_name(type_id), offset, 0, has_known_size=False)


def _complete(rows: list[Tensor], room: int, alignment: int) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    """The table with sizes, and what llama.cpp refuses of it.

    Args:
        rows: the table without sizes.
        room: bytes behind the header.
        alignment: of offsets, bytes.
    """
    tensors: list[Tensor] = []
    expected: int | None = 0
    defects: list[str] = []
    for index, row in enumerate(rows):
        if expected is not None and row.offset != expected:
            defects.append(f"the tensor {row.name!r} stands at {row.offset} and should at {expected}")
        known = TENSOR_TYPES.get(row.type_id)
        if known is None:
            end = rows[index + 1].offset if index + 1 < len(rows) else room
            tensors.append(_sized(row, max(0, end - row.offset), is_known=False))
            expected = None
            continue
        if row.shape and row.shape[0] % known.block:
            defects.append(f"the rows of {row.name!r} are no whole blocks of {known.name}")
        elements = row.elements
        if elements > _GREATEST:
            defects.append(f"the tensor {row.name!r} has more elements than can be counted")
        size = elements // known.block * known.size_bytes
        tensors.append(_sized(row, size, is_known=True))
        expected = row.offset + -(-size // alignment) * alignment
        del defects[MOST_DEFECTS:]
    defects += _defects_of_names(rows)
    return tuple(tensors), tuple(defects[:MOST_DEFECTS])


def _sized(row: Tensor, size_bytes: int, *, is_known: bool) -> Tensor:
    """As `_replace`, which takes three times as long."""
    return Tensor(row.name, row.shape, row.type_id, row.type_name, row.offset, size_bytes, is_known)


def _defects_of_names(rows: list[Tensor]) -> list[str]:
    seen: set[str] = set()
    defects = []
    for row in rows:
        if row.name in seen:
            defects.append(f"the tensor {row.name!r} stands there twice")
        if len(row.name) > MOST_NAME_BYTES:
            defects.append(f"the tensor's name {row.name!r} is too long")
        if len(defects) >= MOST_DEFECTS:
            break
        seen.add(row.name)
    return defects
