"""Which versions running processes use: their executable, or a file they have mapped, lies in one."""

import contextlib
import os

from infer_dev.llama_cpp.bundle.prefix import Prefix


def users(prefix: Prefix) -> dict[str, list[int]]:
    """Id → pids of the processes that use it, as far as this user may look into them (root: all)."""
    root = os.path.realpath(prefix.versions) + os.sep
    found: dict[str, list[int]] = {}
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in sorted(pids):
        for name in {path[len(root) :].partition(os.sep)[0] for path in _files(pid) if path.startswith(root)}:
            found.setdefault(name, []).append(pid)
    return found


def _files(pid: int) -> set[str]:
    """Paths of the executable and of all that is mapped."""
    paths = set()
    with contextlib.suppress(OSError):
        paths.add(os.readlink(f"/proc/{pid}/exe"))
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
        # "address perms offset dev inode   path"
        paths.update(fields[5].rstrip("\n") for line in file if len(fields := line.split(maxsplit=5)) > 5)  # noqa: PLR2004
    return paths
