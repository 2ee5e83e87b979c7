"""A control group for each instance, where the daemon's own has been delegated to it (systemd's `Delegate=yes`).

No process can leave its group by itself, so what is in it is the instance's, even if it has cleared its environment
and begun a session of its own; and the kernel ends all of it at once (`cgroup.kill`, Linux 5.14). Nothing is made
where nobody delegated: the tree belongs to the system's manager. See cgroups(7), and systemd's CGROUP_DELEGATION.
"""

import contextlib
import os
from hashlib import sha256

from infer_dev.host.process.subreaper import children_of

DELEGATED_XATTRS = ("user.delegate", "trusted.delegate")


class Cgroups:
    """The groups of a runtime directory's instances."""

    def __init__(self, folder: str, runtime: str) -> None:
        """Make them under `folder`; two daemons may share that."""
        self._prefix = os.path.join(folder, f"infer-dev-{sha256(os.fsencode(runtime)).hexdigest()[:8]}-")

    def join(self, instance: str, pid: int) -> None:
        """Put a process, what it has started meanwhile and all it will start into its instance's group.

        The first write of a quiet system takes some 15 ms, in which a process may do much.

        Raises:
            OSError: the group cannot be made, or the process is gone.
        """
        folder = self._prefix + instance
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        _write(f"{folder}/cgroup.procs", str(pid))
        waiting = [pid]
        for one in waiting:
            with contextlib.suppress(OSError):  # it has ended
                for child in children_of(one):
                    _write(f"{folder}/cgroup.procs", str(child))
                    waiting.append(child)

    def pids(self, instance: str) -> list[int]:
        """The processes in an instance's group."""
        try:
            with open(f"{self._prefix}{instance}/cgroup.procs", encoding="ascii") as file:
                return [int(line) for line in file]
        except OSError:
            return []

    def kill(self, instance: str) -> None:
        """End every process in an instance's group, those being forked too."""
        with contextlib.suppress(OSError):  # an older kernel: they are ended one by one
            _write(f"{self._prefix}{instance}/cgroup.kill", "1")

    def remove(self, instance: str) -> None:
        """Take away the group of an instance that has no process."""
        with contextlib.suppress(OSError):
            os.rmdir(self._prefix + instance)


def delegated(runtime: str) -> Cgroups | None:
    """The groups that this daemon may make, or None."""
    folder = own_folder()
    if folder is None or not os.access(folder, os.W_OK):
        return None
    for name in DELEGATED_XATTRS:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return Cgroups(folder, runtime)
    return None


def own_folder() -> str | None:
    """The folder of this process's group in the unified hierarchy."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            own = next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), None)
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = [line.split() for line in file if " - cgroup2 " in line]
    except OSError:
        return None
    for fields in mounts:
        root, at = fields[3], fields[4]
        if own is not None and (own == root or own.startswith(f"{root.rstrip('/')}/")):
            return os.path.normpath(f"{at}/{own[len(root.rstrip('/')) :]}")
    return None


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
