"""Keeps catalogues as files, one for each llama-server. Whatever is wrong with them, they are done without."""

import json
import os
import stat
import time
from dataclasses import asdict
from typing import Any

from infer_dev.llama_cpp.options.catalogue import Catalogue, Option

_OTHERS_WRITE = 0o022
_LIMIT_BYTES = 4 << 20
_KEPT = 16
# Of a script that starts another binary one cannot always tell that the other one has changed.
_KEPT_S = 24 * 3600.0
_PREFIX = "options-"


def recall(folder: str, key: str) -> Catalogue | None:
    """The catalogue kept in `folder` under `key`; None without one that can be trusted."""
    if not folder or not _is_private(folder):
        return None
    try:
        fd = os.open(_path(folder, key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            is_ours = found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE
            age_s = time.time() - found.st_mtime
            if not (
                stat.S_ISREG(found.st_mode) and is_ours and found.st_size < _LIMIT_BYTES and 0 <= age_s < _KEPT_S
            ):
                return None
            return _from_json(json.loads(file.read(_LIMIT_BYTES)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def keep(folder: str, key: str, catalogue: Catalogue) -> None:
    """Keep a catalogue, if `folder` can be made and written."""
    if not folder:
        return
    temporary = os.path.join(folder, f".{key}.{os.getpid()}")
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        if not os.path.lexists(folder):
            os.mkdir(folder, 0o700)
        if not _is_private(folder):
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
                json.dump(_to_json(catalogue), file, separators=(",", ":"))
            os.replace(temporary, _path(folder, key))
        except BaseException:
            os.unlink(temporary)
            raise
        _forget_oldest(folder)
    except (OSError, ValueError):  # a full disk, a folder of somebody else's, a lone surrogate in the help
        return


def _path(folder: str, key: str) -> str:
    return os.path.join(folder, f"{_PREFIX}{key}.json")


def _is_private(folder: str) -> bool:
    """Whether it is a folder that nobody but this user can write: in others anybody could have put something."""
    try:
        found = os.lstat(folder)
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


def _forget_oldest(folder: str) -> None:
    with os.scandir(folder) as entries:
        kept = [(entry.stat(follow_symlinks=False).st_mtime, entry.path) for entry in entries if _is_kept(entry.name)]
    for _, path in sorted(kept)[:-_KEPT]:
        os.unlink(path)


def _is_kept(name: str) -> bool:
    return name.startswith(_PREFIX) and name.endswith(".json")


def _to_json(catalogue: Catalogue) -> dict[str, Any]:  # Any: JSON
    """Of an option only what is not as it is by default: it is read back faster."""
    usual = asdict(Option(names=()))
    rows = [{name: value for name, value in asdict(one).items() if value != usual[name]} for one in catalogue.options]
    return {"version": catalogue.version, "is_complete": catalogue.is_complete, "options": rows}


def _from_json(document: Any) -> Catalogue:
    options = tuple(_option(row) for row in document["options"])
    version, is_complete = document["version"], document["is_complete"]
    if not (isinstance(version, str) and isinstance(is_complete, bool) and all(map(_is_sound, options))):
        raise TypeError("not a catalogue")
    return Catalogue(options, version, is_complete=is_complete)


def _option(row: dict[str, Any]) -> Option:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Option(**values)  # type: ignore[arg-type]  # `_is_sound` looks at them


def _is_sound(option: Option) -> bool:
    """Whether the fields that are used as text are."""
    texts = (*option.names, *option.negatives, *(option.choices or ()), *option.mentioned, *option.successors)
    is_text = all(isinstance(text, str) for text in (*texts, option.metavar, option.env or ""))
    return is_text and bool(option.names) and option.values in (None, 0, 1, 2)
