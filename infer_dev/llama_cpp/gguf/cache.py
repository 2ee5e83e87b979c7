"""Headers kept from one run to the next.

To read that of a large vocabulary takes 40 ms, to read the same from here 1 ms: a rack of 64 models is checked at
every `up`. An entry counts only for the very file it was made of (device, inode, size, times).
"""

import os
from hashlib import sha256
from time import time_ns
from typing import Any

from infer_dev.cache import Shelf
from infer_dev.llama_cpp.gguf.header import Array, Header, LongText, Tensor, Value, read_header

FORMAT = 1
"""Another one where an entry of this program would be read differently."""
LEAST_HEADER_BYTES = 256 << 10
"""A smaller header is read as fast as an entry."""
_SHELF = Shelf("gguf", most=1024, most_bytes=32 << 20)
SETTLED_NS = 2_000_000_000
"""A file changed so lately may change again without another time stamp."""


def read_cached(path: str, folder: str) -> Header:
    """As `read_header`, by the entry in `folder` if there is one, and leaving one there for the next time.

    Args:
        path: the file.
        folder: where entries are kept (`settings.cache_dir`); made at need.

    Raises:
        GgufError: as `read_header`.
    """
    key = sha256(os.path.abspath(path).encode(errors="surrogateescape")).hexdigest()[:32]
    identity = _identity(path)
    if identity and (header := _load(_SHELF.recall(folder, key), path, identity)):
        return header
    header = read_header(path)
    is_settled = identity is not None and time_ns() - identity[3] > SETTLED_NS
    if is_settled and header.data_offset >= LEAST_HEADER_BYTES and _identity(path) == identity:
        document = {"format": FORMAT, "identity": identity, "header": _to_json(header)}
        _SHELF.keep(folder, key, document)
    return header


def _identity(path: str) -> list[int] | None:
    """What is another for another content: device, inode, size, times in ns; None if there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _load(document: Any, path: str, identity: list[int]) -> Header | None:  # Any: JSON
    """The header in an entry; None where it is none of this file that can be trusted."""
    try:
        if document["format"] != FORMAT or document["identity"] != identity:
            return None
        return _from_json(document["header"], path)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None  # none, or of another version: read anew


def _to_json(header: Header) -> dict[str, Any]:  # Any: JSON
    return {
        "size_bytes": header.size_bytes,
        "version": header.version,
        "is_little_endian": header.is_little_endian,
        "metadata": {key: _value_to_json(value) for key, value in header.metadata.items()},
        "tensors": header.tensors,
        "data_offset": header.data_offset,
        "alignment": header.alignment,
        "defects": header.defects,
    }


def _value_to_json(value: Value) -> object:
    match value:
        case Array():
            return [value.kind, value.count, value.items]
        case LongText():
            return [value.size_bytes]
    return value


def _from_json(document: dict[str, Any], path: str) -> Header:  # Any: JSON
    tensors = (
        Tensor(name, tuple(shape), type_id, type_name, offset, size_bytes, has_known_size)
        for name, shape, type_id, type_name, offset, size_bytes, has_known_size in document.pop("tensors")
    )
    metadata = {key: _value_from_json(value) for key, value in document.pop("metadata").items()}
    defects = tuple(document.pop("defects"))
    return Header(path=path, metadata=metadata, tensors=tuple(tensors), defects=defects, **document)


def _value_from_json(value: Any) -> Value:  # Any: JSON
    match value:
        case [kind, count, items]:
            return Array(kind, count, None if items is None else tuple(items))
        case [size_bytes]:
            return LongText(size_bytes)
    plain: Value = value
    return plain
