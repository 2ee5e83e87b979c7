"""Remembers what was looked at and found without fault, so that the next `up` of the same need not look again.

The same: the plan, the binary, every model file that was read, and memory that still suffices. Nothing is remembered
where a GPU driver is: what is free there changes, and a load takes seconds anyway.
"""

import json
import os
from collections.abc import Iterable, Sequence
from hashlib import sha256

from infer_dev import __version__
from infer_dev.cache import Shelf
from infer_dev.host.gpu import driver as gpu
from infer_dev.host.memory.left import read_memory
from infer_dev.llama_cpp.options.identity import identity
from infer_dev.plan.model import Plan
from infer_dev.plan.serial import plan_to_json

_SHELF = Shelf("clean", most=64, most_bytes=1 << 20, most_age_s=24 * 3600.0)


def key_of(plan: Plan, names: Sequence[str]) -> str:
    """What is another for another plan, other instances of it, another llama-server or another version of infer-dev.

    "" where nothing can be remembered.
    """
    if gpu.are_present():
        return ""
    document = plan_to_json(plan)
    document["specs"] = [spec for spec in document["specs"] if spec["name"] in names]
    libraries = sorted({spec["command"]["env"].get("LD_LIBRARY_PATH", "") for spec in document["specs"]})
    try:
        servers = [identity(plan.binary, one) for one in libraries]
    except (OSError, ValueError):
        return ""
    whole = json.dumps([__version__, servers, document, os.geteuid(), os.environ.get("CUDA_VISIBLE_DEVICES")])
    return sha256(whole.encode(errors="surrogateescape")).hexdigest()


def is_known(folder: str, key: str) -> bool:
    """Whether nothing was found the last time, and all is as it was then."""
    if not key:
        return False
    try:
        kept = _SHELF.recall(folder, key)
        if kept is None or any(_stamp(path) != stamp for path, stamp in kept["files"].items()):
            return False
        memory = read_memory()
        return memory is not None and memory.available_bytes >= kept["memory_bytes"]
    except (KeyError, TypeError, AttributeError, ValueError):
        return False


def remember(folder: str, key: str, files: Iterable[str], memory_bytes: int) -> None:
    """Remember that nothing was found.

    Args:
        folder: of the cache.
        key: of `key_of`.
        files: all that were read for it.
        memory_bytes: what the instances need of ordinary memory, together.
    """
    if key:
        stamps = {path: _stamp(path) for path in files}
        _SHELF.keep(folder, key, {"files": stamps, "memory_bytes": memory_bytes})


def _stamp(path: str) -> list[int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode]
