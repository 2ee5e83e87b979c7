"""Writes the members of an archive into a folder, and nowhere else.

Every folder on the way is opened by itself below the one before (openat(2) with O_NOFOLLOW), so a link that an
archive made first cannot carry what it brings next. Links may lead to places inside only: `..` stands at the
beginning of a target or not at all, and there never leads above the folder. As links lie in real folders, no chain of
such links can leave it either.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from infer_dev.llama_cpp.bundle.formats import HEAD_BYTES, Format, sniff
from infer_dev.llama_cpp.bundle.members import DAMAGED, HOSTILE, REPACK, Kind, Member, RefusalError, shown
from infer_dev.llama_cpp.bundle.pipeline import write_all, writing
from infer_dev.llama_cpp.bundle.zip import too_many

if TYPE_CHECKING:
    from types import TracebackType

MOST_NAME_BYTES = 255
MOST_PATH_BYTES = 1024
MOST_DEPTH = 32
MOST_TOLD = 5
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL_BITS = 0o7000
_EXECUTABLE_BITS = 0o111

Parts = tuple[str, ...]


class Tree:
    """The folder that is filled.

    Args:
        folder: exists and is empty.
        most_bytes, most_members: the limits.
        why_most: after "more than N bytes ", where the first limit comes from.

    Attributes:
        members: entries of the archive taken so far.
        unpacked_bytes: of all files so far.
    """

    def __init__(self, folder: str, *, most_bytes: int, most_members: int, why_most: str) -> None:
        self._root = os.open(folder, _FOLDER)
        self._most_bytes = most_bytes
        self._most_members = most_members
        self._why_most = why_most
        self._kinds: dict[Parts, Kind] = {}
        self._parent: tuple[Parts, int] | None = None
        self._only_file: tuple[str, bytes] | None = None
        self._files = 0
        self.members = 0
        self.unpacked_bytes = 0
        self._stripped: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave_parent()
        os.close(self._root)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was changed on the way in."""
        if not self._stripped:
            return ()
        names = ", ".join(self._stripped[:MOST_TOLD]) + (", …" if len(self._stripped) > MOST_TOLD else "")
        return (f"setuid, setgid or sticky bit dropped from {names}",)

    def add(self, member: Member) -> None:
        """Make one member.

        Raises:
            RefusalError: it is none of a bundle's, or cannot be written.
        """
        self.members += 1
        path = _path(member)
        if self.members > self._most_members or len(self._kinds) >= 2 * self._most_members:
            raise too_many(self._most_members)
        if not path:
            if member.kind != "folder":
                raise RefusalError(f"{shown(member.name)} would replace the whole folder", hint=HOSTILE)
            return
        if path in self._kinds and not self._kinds[path] == member.kind == "folder":
            raise RefusalError(f"{shown(member.name)} is in it twice", hint=HOSTILE)
        if member.mode & _SPECIAL_BITS and member.kind in ("file", "folder"):
            self._stripped.append(shown(member.name))
        with writing(shown(member.name)):
            match member.kind:
                case "folder":
                    self._enter(path)
                case "file":
                    self._add_file(member, path)
                case "link":
                    _check_target(member, path)
                    os.symlink(member.target, path[-1], dir_fd=self._enter(path[:-1]))
                case "hard link":
                    self._add_hard_link(member, path)
        self._kinds[path] = member.kind

    def finish(self) -> None:
        """Look at the whole.

        Raises:
            RefusalError: there is nothing in it, or just another archive.
        """
        if not self._files:
            raise RefusalError("it holds no files", hint="make one with `infer-dev bundle create`")
        if self._only_file and self._files == 1:
            name, head = self._only_file
            inner = sniff(head) if head.strip(b"\0") else None
            if inner:
                kind = "a tar" if inner is Format.TAR else f"{inner.value} data"
                raise RefusalError(f"all it holds is another archive: {shown(name)} ({kind})", hint="unpack that one")

    def _add_file(self, member: Member, path: Parts) -> None:
        total = self.unpacked_bytes + member.size_bytes
        if total > self._most_bytes:
            raise RefusalError(
                f"{shown(member.name)} would bring it to {total:,} bytes, more than the {self._most_bytes:,} "
                f"{self._why_most}",
                hint="free some space or install elsewhere; if it should not be so large, do not trust it",
            )
        fd = os.open(path[-1], _NEW_FILE, 0o600, dir_fd=self._enter(path[:-1]))
        head, written = b"", 0
        try:
            for piece in member.content:
                written += len(piece)
                if written > member.size_bytes:
                    raise RefusalError(f"{shown(member.name)} has more bytes than it says", hint=HOSTILE)
                if len(head) < HEAD_BYTES and not self._files:
                    head += bytes(piece[:HEAD_BYTES])
                write_all(fd, piece, shown(member.name))
            if written < member.size_bytes:
                raise RefusalError(f"{shown(member.name)} has fewer bytes than it says", hint=DAMAGED)
            os.fchmod(fd, 0o755 if member.mode & _EXECUTABLE_BITS else 0o644)
        finally:
            os.close(fd)
        self._only_file = self._only_file or (member.name, head)
        self._files += 1
        self.unpacked_bytes = total

    def _add_hard_link(self, member: Member, path: Parts) -> None:
        target = _components(member.target, f"{shown(member.name)}, a hard link: its target")
        if self._kinds.get(target) not in ("file", "hard link"):
            raise RefusalError(
                f"{shown(member.name)} is a hard link to {shown(member.target)}, which is no file before it",
                hint=HOSTILE,
            )
        source = os.dup(self._enter(target[:-1]))
        try:
            os.link(
                target[-1],
                path[-1],
                src_dir_fd=source,
                dst_dir_fd=self._enter(path[:-1]),
                follow_symlinks=False,
            )
        finally:
            os.close(source)

    def _enter(self, path: Parts) -> int:
        """A descriptor of a folder below the root, made where it is missing; valid until the next call."""
        if self._parent and self._parent[0] == path:
            return self._parent[1]
        self._leave_parent()
        fd = os.dup(self._root)
        for depth, name in enumerate(path, start=1):
            inner = self._enter_one(fd, name, path[:depth])
            os.close(fd)
            fd = inner
        self._parent = (path, fd)
        return fd

    def _enter_one(self, fd: int, name: str, path: Parts) -> int:
        kind = self._kinds.get(path)
        try:
            if kind is None:
                os.mkdir(name, 0o755, dir_fd=fd)
            if kind in (None, "folder"):
                inner = os.open(name, _FOLDER, dir_fd=fd)
                if kind is None:
                    os.fchmod(inner, 0o755)
                    self._kinds[path] = "folder"
                return inner
        except OSError:
            os.close(fd)
            raise
        os.close(fd)
        raise RefusalError(f"a member lies below {shown('/'.join(path))}, which is a {kind}", hint=HOSTILE)

    def _leave_parent(self) -> None:
        if self._parent:
            os.close(self._parent[1])
            self._parent = None


def _path(member: Member) -> Parts:
    if member.name.endswith("/") and member.kind != "folder":
        raise RefusalError(f"{shown(member.name)} is a {member.kind} with the name of a folder", hint=HOSTILE)
    return _components(member.name, shown(member.name))


def _components(name: str, what: str) -> Parts:
    """A name's parts, checked one by one."""
    _check_text(name, what)
    if name.startswith("/"):
        raise RefusalError(f"{what} has an absolute name", hint=HOSTILE)
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise RefusalError(f"{what} leads out of the folder by '..'", hint=HOSTILE)
    if len(parts) > MOST_DEPTH:
        raise RefusalError(f"{what} lies more than {MOST_DEPTH} folders deep", hint=HOSTILE)
    return parts


def _check_text(name: str, what: str) -> None:
    try:
        raw = name.encode()
    except UnicodeEncodeError as err:
        raise RefusalError(f"{what} has a name that is not UTF-8", hint=REPACK) from err
    if not name.isprintable():
        raise RefusalError(f"{what} has control characters in its name", hint=HOSTILE)
    if not name:
        raise RefusalError("a member or a link's target has no name", hint=HOSTILE)
    if len(raw) > MOST_PATH_BYTES or max(map(len, raw.split(b"/"))) > MOST_NAME_BYTES:
        raise RefusalError(f"{what} has too long a name", hint=HOSTILE)


def _check_target(member: Member, path: Parts) -> None:
    what = f"the link {shown(member.name)}"
    _check_text(member.target, f"{what}, or rather its target,")
    if reason := _leads_out(member.target, depth=len(path) - 1):
        raise RefusalError(f"{what} leads to {shown(member.target)}: {reason}", hint=HOSTILE)


def _leads_out(target: str, *, depth: int) -> str:
    """Why a link so many folders deep must not have this target, or ""."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    if target.startswith("/"):
        return "an absolute place"
    if up > depth:
        return "outside"
    if ".." in parts[up:]:
        return "by '..' in the middle"
    return ""
