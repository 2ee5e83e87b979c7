"""JSON documents that could be made again, kept from one run to the next in a folder that only this user can write.

Whatever is wrong with the folder or with what lies there, it is done without.
"""

from __future__ import annotations

import json
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OTHERS_WRITE = 0o022
_SUFFIX = ".json"


class Shelf:
    """The documents of one kind.

    A plain class: `dataclasses` are slow to import, and the daemon imports this.
    """

    def __init__(self, kind: str, *, most: int, most_bytes: int, most_age_s: float = float("inf")) -> None:
        """Say what is kept.

        Args:
            kind: what their names begin with.
            most: how many; the oldest go.
            most_bytes: no larger one is read.
            most_age_s: no older one is.
        """
        self._prefix, self._most, self._most_bytes, self._most_age_s = f"{kind}-", most, most_bytes, most_age_s

    def recall(self, folder: str, key: str) -> Any:  # Any: JSON
        """The document kept in `folder` under `key`; None without one that can be trusted."""
        if not folder or not _is_private(folder):
            return None
        try:
            fd = os.open(self._path(folder, key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(fd, "rb") as file:
                found = os.fstat(fd)
                age_s = time.time() - found.st_mtime
                is_ours = found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE
                is_fresh = self._most_age_s == float("inf") or 0 <= age_s < self._most_age_s
                if not (stat.S_ISREG(found.st_mode) and is_ours and is_fresh and found.st_size <= self._most_bytes):
                    return None
                return json.loads(file.read(self._most_bytes))
        except (OSError, ValueError, RecursionError):
            return None

    def keep(self, folder: str, key: str, document: object) -> None:
        """Keep a document, if `folder` can be made and written."""
        if not folder:
            return
        temporary = os.path.join(folder, f".{self._prefix}{key}.{os.getpid()}")
        try:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            if not os.path.lexists(folder):
                os.mkdir(folder, 0o700)
            if not _is_private(folder):
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
                    json.dump(document, file, separators=(",", ":"))
                os.replace(temporary, self._path(folder, key))
            except BaseException:
                os.unlink(temporary)
                raise
            self._make_room(folder)
        except (OSError, ValueError):  # a full disk, a folder of somebody else's, a lone surrogate in a text
            return

    def _path(self, folder: str, key: str) -> str:
        return os.path.join(folder, f"{self._prefix}{key}{_SUFFIX}")

    def _make_room(self, folder: str) -> None:
        with os.scandir(folder) as entries:
            found = [one for one in entries if one.name.startswith(self._prefix) and one.name.endswith(_SUFFIX)]
        if len(found) > self._most:
            found.sort(key=lambda one: one.stat(follow_symlinks=False).st_mtime_ns)
            for one in found[: -self._most]:
                os.unlink(one.path)


def _is_private(folder: str) -> bool:
    """Whether it is a folder that nobody but this user can write: in others anybody could have put something."""
    try:
        found = os.lstat(folder)
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE
