"""The folders of a prefix, and what its versions say about themselves. Only reads.

    PREFIX/cache/ARCHIVE                      the copy of each archive installed
    PREFIX/llama-cpp-versions/ID/             one version: version.json, unpacked/…
    PREFIX/llama-cpp-versions/previous        a link to the version that was current before
    PREFIX/llama-cpp/bin                      a link to the current version's folder of llama-server
    PREFIX/llama-cpp/*.sh                     the helper scripts

Imports little: that an archive is installed already must be known within a few milliseconds.
"""

from __future__ import annotations

import json
import os

from infer_dev.errors import UsageError
from infer_dev.settings import SERVER_NAME, server_under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RECORD_NAME = "version.json"
TREE_NAME = "unpacked"
STAGING_MARK = ".staging-"
TRASH_MARK = ".trash-"
PARTIAL_MARK = ".partial-"

# Any: JSON. What identifies a file that has not been touched: its path, and of its status these.
Source = dict[str, "Any"]


def source_of(path: str) -> Source:
    """What tells, without reading it, that an archive is the one that was installed.

    The time of the last status change is in it because it cannot be set back, as the modification time can.

    Raises:
        OSError: it is not there.
    """
    path = os.path.abspath(path)
    found = os.stat(path)
    return {
        "path": path,
        "size_bytes": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "inode": found.st_ino,
    }


class Version:
    """One installed version, as its record has it.

    Attributes:
        id: its folder's name, the beginning of its digest.
        sha256: of the archive; "" for one that was here before infer-dev.
        version, build, backends: see `verify.Report`.
        installed_at: UTC, ISO 8601.
        size_bytes: of the files unpacked.
        bin: the folder of llama-server, relative to the version's.
        readmes: its README files, likewise.
        source: see `source_of`; empty for one that was here before.
        cached: the name of the archive's copy in the cache, or "".
    """

    __slots__ = (
        "backends", "bin", "build", "cached", "id", "installed_at", "readmes", "sha256", "size_bytes", "source",
        "version",
    )  # fmt: skip

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - its name in the record
        sha256: str,
        version: str,
        build: int | None,
        backends: list[str],
        installed_at: str,
        size_bytes: int,
        bin: str,  # noqa: A002 - its name in the record
        readmes: list[str],
        source: Source,
        cached: str,
    ) -> None:
        self.id, self.sha256, self.version, self.build = id, sha256, version, build
        self.backends, self.installed_at, self.size_bytes = backends, installed_at, size_bytes
        self.bin, self.readmes, self.source, self.cached = bin, readmes, source, cached

    def as_dict(self) -> dict[str, Any]:
        """The record. Any: JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def label(self) -> str:
        """For people: `0.7.0 (build 11669; cpu, rpc)`."""
        about = [f"build {self.build}"] if self.build is not None and self.version != f"b{self.build}" else []
        about += [", ".join(self.backends)] if self.backends else []
        return self.version + (f" ({'; '.join(about)})" if about else "")


def _is_sound(version: Version) -> bool:
    """Whether a record that was read has the types it should have."""
    texts = (version.id, version.sha256, version.version, version.installed_at, version.bin, version.cached)
    lists = (version.backends, version.readmes)
    return (
        all(isinstance(one, str) for one in texts)
        and all(isinstance(one, list) and all(isinstance(name, str) for name in one) for one in lists)
        and isinstance(version.build, int | None)
        and isinstance(version.size_bytes, int)
        and isinstance(version.source, dict)
    )


class Prefix:
    """A prefix.

    Raises:
        UsageError: it is relative, and the current folder is gone.

    Attributes:
        path: its absolute path.
        home: the folder of `bin` and the helper scripts.
        versions: the folder of the versions.
        cache: the folder of the archives.
        bin: the link that is switched.
        server: the llama-server, by way of that link.
    """

    def __init__(self, path: str) -> None:
        try:
            self.path = os.path.abspath(path)
        except OSError as err:
            raise UsageError(
                f"cannot tell where {path} is: the current folder is gone", hint="change to another"
            ) from err
        self.home = os.path.join(self.path, "llama-cpp")
        self.versions = os.path.join(self.path, "llama-cpp-versions")
        self.cache = os.path.join(self.path, "cache")
        self.bin = os.path.join(self.home, "bin")
        self.server = server_under(self.path)
        self.previous = os.path.join(self.versions, "previous")

    def folder(self, version: Version) -> str:
        """The folder of a version."""
        return os.path.join(self.versions, version.id)

    def bin_of(self, version: Version) -> str:
        """The folder of a version's llama-server."""
        return os.path.join(self.versions, version.id, version.bin)

    def all(self) -> list[Version]:
        """Every version, the newest first."""
        try:
            names = os.listdir(self.versions)
        except OSError:
            return []
        found = [version for name in names if (version := self.read(name))]
        return sorted(found, key=lambda one: (one.installed_at, one.id), reverse=True)

    def read(self, name: str) -> Version | None:
        """The version with this id, or None if there is none (or its record cannot be understood)."""
        if not name or name.startswith(".") or os.path.islink(os.path.join(self.versions, name)):
            return None
        try:
            with open(os.path.join(self.versions, name, RECORD_NAME), encoding="utf-8") as file:
                record = json.load(file)
            # What a later infer-dev may add is left out.
            version = Version(**{key: record[key] for key in Version.__slots__})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return version if version.id == name and _is_sound(version) else None

    def find(self, wanted: str) -> Version:
        """The version whose id begins with `wanted`.

        Raises:
            UsageError: none does, or several do.
        """
        found = [version for version in self.all() if wanted and version.id.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        why = f"{len(found)} begin with it" if found else "there is none"
        raise UsageError(f"cannot tell which version {wanted!r} is: {why}", hint="see `infer-dev bundle list`")

    def current_id(self) -> str:
        """The id of the version that `bin` leads to; "" if it is none of ours."""
        return self._id_behind(self.bin)

    def previous_id(self) -> str:
        """The id of the version that was current before; "" if there is none."""
        return self._id_behind(self.previous)

    def is_own(self, link: str) -> bool:
        """Whether this is a link to what a version brought (it may be gone by now)."""
        return bool(self._id_behind(link))

    def _id_behind(self, link: str) -> str:
        if not os.path.islink(link):
            return ""
        versions, target = os.path.realpath(self.versions), os.path.realpath(link)
        inside = os.path.relpath(target, versions)
        return "" if inside.startswith("..") else inside.partition(os.sep)[0]

    def installed_already(self, archive: str, sha256: str = "") -> Version | None:
        """The current version, if this archive, untouched since, is where it came from and it is in place."""
        version = self.read(self.current_id())
        if version is None or (sha256 and sha256.lower() != version.sha256):
            return None
        try:
            same = source_of(archive) == version.source
        except OSError:
            return None
        in_place = os.access(os.path.join(self.bin_of(version), SERVER_NAME), os.X_OK) and os.path.exists(self.server)
        return version if same and in_place else None
