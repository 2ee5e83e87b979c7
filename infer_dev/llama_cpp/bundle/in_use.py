"""Which versions running processes use: their executable, or a file they have mapped, lies in one.

Only root, or rather who may trace them (ptrace(2), PTRACE_MODE_READ_FSCREDS), is shown that of other users'
processes. Of those the command line is looked at, which all may read: it tells that a server of this prefix runs, if
not which.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from infer_dev.settings import SERVER_NAME

if TYPE_CHECKING:
    from infer_dev.llama_cpp.bundle.prefix import Prefix

_PATHS = re.compile("[:=]")  # `--library-path /a:/b`, `NAME=/a`
_ANY_PROCESS = "/proc/1/stat"


class Use(NamedTuple):
    """Who uses what.

    Attributes:
        by_version: id → pids of the processes that use it.
        untold: pids of other users' processes that run a server of this prefix, or may do; of which version is not
            shown to this user.
        is_all: false: other users' processes are not even listed (proc(5), hidepid).
    """

    by_version: dict[str, list[int]]
    untold: list[int]
    is_all: bool


def look(prefix: Prefix) -> Use:
    """What is in use now."""
    root = os.path.realpath(prefix.versions) + os.sep
    by_version: dict[str, list[int]] = {}
    untold = []
    with os.scandir("/proc") as entries:
        pids = sorted(int(entry.name) for entry in entries if entry.name.isdigit())
    for pid in pids:
        try:
            names = {path[len(root) :].partition(os.sep)[0] for path in _files(pid) if path.startswith(root)}
        except OSError:
            names = _versions_named(pid, prefix)
        for name in names:
            if name:
                by_version.setdefault(name, []).append(pid)
            else:
                untold.append(pid)
    return Use(by_version, untold, is_all=os.access(_ANY_PROCESS, os.R_OK, effective_ids=True))


def _files(pid: int) -> set[str]:
    """Paths of the executable and of all that is mapped; none of a process that has ended.

    Raises:
        OSError: they cannot be seen, as a rule because this user is not to (EACCES).
    """
    paths = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        paths.add(os.readlink(f"/proc/{pid}/exe"))
    with (
        contextlib.suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file,
    ):
        # "address perms offset dev inode   path"
        paths.update(fields[5].rstrip("\n") for line in file if len(fields := line.split(maxsplit=5)) > 5)  # noqa: PLR2004
    return paths


def _versions_named(pid: int, prefix: Prefix) -> set[str]:
    """Ids that a command line names; "": it names the link that is switched, or a llama-server that may be ours."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="surrogateescape") as file:
            words = file.read().split("\0")
    except OSError:
        return set()
    folders = {prefix.versions + os.sep, os.path.realpath(prefix.versions) + os.sep}
    paths = [os.path.normpath(path) for word in words for path in _PATHS.split(word) if path.startswith("/")]
    named = {path[len(root) :].partition(os.sep)[0] for path in paths for root in folders if path.startswith(root)}
    if named:
        return named
    links = (prefix.bin, os.path.join(os.path.realpath(prefix.home), os.path.basename(prefix.bin)))
    by_link = any((path + os.sep).startswith(link + os.sep) for path in paths for link in links)
    server = words[0]
    if os.path.basename(server) == SERVER_NAME:
        # From its folder, or found by PATH; or by a link of somebody's to our link.
        by_link = by_link or not server.startswith("/") or any(map(os.path.realpath(server).startswith, folders))
    return {""} if by_link else set()
