"""GGUF headers byte by byte, also those that no writer would make."""

from __future__ import annotations

from struct import pack

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_FORMS = "BbHhIif???Qqd"
ALIGNMENT = 32


def text(value: bytes | str, *, order: str = "<") -> bytes:
    """A string: its length and its bytes."""
    raw = value.encode() if isinstance(value, str) else value
    return pack(f"{order}Q", len(raw)) + raw


def pair(key: bytes | str, kind: int, value: object, *, order: str = "<") -> bytes:
    """A key with a string or a number."""
    data = text(value, order=order) if isinstance(value, str | bytes) else pack(order + _FORMS[kind], value)
    return text(key, order=order) + pack(f"{order}I", kind) + data


def array(key: str, kind: int, count: int, data: bytes, *, order: str = "<") -> bytes:
    """A key with an array: whatever count is claimed for whatever bytes."""
    return text(key, order=order) + pack(f"{order}IIQ", ARRAY, kind, count) + data


def tensor(name: bytes | str, shape: tuple[int, ...], type_id: int, offset: int, *, order: str = "<") -> bytes:
    """A row of the tensor table."""
    return text(name, order=order) + pack(f"{order}I{len(shape)}QIQ", len(shape), *shape, type_id, offset)


def header(
    pairs: list[bytes],
    tensors: list[bytes],
    *,
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    order: str = "<",
) -> bytes:
    """A whole header, padded to where the weights begin; the counts may be lies."""
    keys = len(pairs) if key_count is None else key_count
    rows = len(tensors) if tensor_count is None else tensor_count
    whole = b"GGUF" + pack(f"{order}IQQ", version, rows, keys) + b"".join(pairs) + b"".join(tensors)
    return whole + bytes(-len(whole) % ALIGNMENT)
