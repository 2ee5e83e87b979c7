"""The GGUF files below folders, and which of them are one model."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from infer_dev.llama_cpp.gguf.error import GgufError
from infer_dev.llama_cpp.gguf.model import Model
from infer_dev.llama_cpp.gguf.shards import split_name

ENDING = ".gguf"
MOST_DEPTH = 8
MOST_ENTRIES = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A model that was found.

    Attributes:
        path: its file, of shards the first that is there.
        model: what it is; None if it cannot be read.
        reason: why it cannot be read, or "".
        hint: what to do about that, or "".
    """

    path: str
    model: Model | None
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        paths: files in order, each once however many links lead to it.
        is_all: whether everything was looked at; else there were too many entries or levels.
    """

    paths: tuple[str, ...]
    is_all: bool


def gguf_files(roots: Iterable[str], *, most_entries: int = MOST_ENTRIES, most_depth: int = MOST_DEPTH) -> Found:
    """The GGUF files below `roots`, links followed; a root may be a file.

    Args:
        roots: folders; those that cannot be read are passed over.
        most_entries: how many files and folders are looked at in all.
        most_depth: how many levels of folders.
    """
    files: dict[tuple[int, int], str] = {}
    seen: set[tuple[int, int]] = set()
    waiting = [(os.path.abspath(root), 0) for root in roots][::-1]
    left, is_all = most_entries, True
    while waiting:
        path, depth = waiting.pop()
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            if os.path.isfile(path):
                if path.endswith(ENDING) and (identity not in files or os.path.islink(files[identity])):
                    files[identity] = path
                continue
            if identity in seen:  # a link back, or another way to the same
                continue
            seen.add(identity)
            names = sorted(os.listdir(path))
        except OSError:
            continue
        if depth >= most_depth or len(names) > left:
            is_all = False
            continue
        left -= len(names)
        below = ((os.path.join(path, name), depth + 1) for name in reversed(names) if not name.startswith("."))
        waiting += [(one, level) for one, level in below if one.endswith(ENDING) or os.path.isdir(one)]
    return Found(paths=tuple(files.values()), is_all=is_all)


def listed(paths: Iterable[str], read: Callable[[str], Model]) -> list[Listed]:
    """The models that files are, shards of a set as one.

    Args:
        paths: files; of a set any shards.
        read: reads one; raises GgufError.
    """
    firsts: dict[tuple[str, int] | str, str] = {}
    for path in paths:
        named = split_name(path)
        key = (named[0], named[2]) if named else path
        firsts[key] = min(path, firsts.get(key, path))
    return [_listed(path, read) for path in firsts.values()]


def _listed(path: str, read: Callable[[str], Model]) -> Listed:
    try:
        return Listed(path=path, model=read(path))
    except GgufError as err:
        return Listed(path=path, model=None, reason=err.reason, hint=err.hint)
