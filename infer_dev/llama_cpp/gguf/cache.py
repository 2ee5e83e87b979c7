"""Headers kept from one run to the next.

To read that of a large vocabulary takes 40 ms, to read the same from here 1 ms: a rack of 64 models is checked at
every `up`. An entry counts only for the very file it was made of (device, inode, size, times).
"""

import json
import os
import stat
from collections.abc import Mapping
from hashlib import sha256
from time import time_ns
from typing import Any

from infer_dev.llama_cpp.gguf.header import Array, Header, LongText, Tensor, Value, read_header

CACHE_VAR = "INFER_DEV_CACHE_DIR"
FORMAT = 1
"""Another one where an entry of this program would be read differently."""
LEAST_HEADER_BYTES = 256 << 10
"""A smaller header is read as fast as an entry."""
MOST_ENTRIES = 1024
MOST_ENTRY_BYTES = 32 << 20
SETTLED_NS = 2_000_000_000
"""A file changed so lately may change again without another time stamp."""


def cache_folder(environ: Mapping[str, str] = os.environ) -> str:
    """Where entries are kept: below `$INFER_DEV_CACHE_DIR`, else the user's cache folder."""
    given = environ.get(CACHE_VAR)
    if not given:
        given = os.path.join(environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "infer-dev")
    return os.path.join(os.path.abspath(given), "gguf")


def read_cached(path: str, folder: str, *, most_entries: int = MOST_ENTRIES) -> Header:
    """As `read_header`, by the entry in `folder` if there is one, and leaving one there for the next time.

    Args:
        path: the file.
        folder: where entries are kept; made at need.
        most_entries: how many are kept there; then the oldest half goes.

    Raises:
        GgufError: as `read_header`.
    """
    entry = os.path.join(folder, sha256(os.path.abspath(path).encode(errors="surrogateescape")).hexdigest()[:32])
    identity = _identity(path)
    if identity and (header := _load(entry, path, identity)):
        return header
    header = read_header(path)
    is_settled = identity is not None and time_ns() - identity[3] > SETTLED_NS
    if is_settled and header.data_offset >= LEAST_HEADER_BYTES and _identity(path) == identity:
        document = {"format": FORMAT, "identity": identity, "header": _to_json(header)}
        _store(entry, folder, document, most_entries)
    return header


def _identity(path: str) -> list[int] | None:
    """What is another for another content: device, inode, size, times in ns; None if there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _load(entry: str, path: str, identity: list[int]) -> Header | None:
    """The header kept in `entry`; None where there is none of this file that can be trusted."""
    try:
        descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        is_ours = stat.S_ISREG(status.st_mode) and status.st_uid in (0, os.geteuid())
        if not is_ours or status.st_size > MOST_ENTRY_BYTES:
            return None
        try:
            document = json.loads(file.read(MOST_ENTRY_BYTES))
            if document["format"] != FORMAT or document["identity"] != identity:
                return None
            return _from_json(document["header"], path)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None  # written by halves, or by another version: read anew


def _store(entry: str, folder: str, document: dict[str, Any], most_entries: int) -> None:  # Any: JSON
    """Keep an entry; where that cannot be done (a full disk, a folder of others) nothing is lost."""
    building = f"{entry}.{os.getpid()}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _make_room(folder, most_entries)
        descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w") as file:
                json.dump(document, file, separators=(",", ":"))
            os.replace(building, entry)
        except OSError:
            os.unlink(building)
    except OSError:
        return


def _make_room(folder: str, most_entries: int) -> None:
    """Remove the oldest entries where there are too many."""
    with os.scandir(folder) as found:
        entries = list(found)
    if len(entries) >= most_entries:
        entries.sort(key=lambda one: one.stat(follow_symlinks=False).st_mtime_ns)
        for one in entries[: len(entries) - most_entries // 2]:
            os.unlink(one.path)


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
