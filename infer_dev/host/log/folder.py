"""A log folder that root makes for another account.

Root does only what that account cannot do itself: it makes folders in folders that are root's alone, and gets there
by folders and links that are root's. Where anybody else can write (the account too) a link may be planted at any
moment, and root is not needed, or must not help. The file that names the folder may be the account's own, so none is
made among what the system takes its programs from.
"""

import contextlib
import os
import stat
from collections.abc import Iterator

from infer_dev.host.account import Account

OTHERS_WRITE = 0o022
MOST_LINKS = 40  # as the kernel follows
OF_THE_SYSTEM = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/proc", "/root", "/run"),
    *("/sbin", "/sys", "/usr", "/var/lib", "/var/spool"),
)
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_log_folder(path: str, account: Account) -> bool:
    """Make the folders of an absolute path that are missing, and give these to the account.

    Returns:
        Whether some were missing, and were root's to make.

    Raises:
        OSError: one cannot be made.
    """
    with contextlib.ExitStack() as opened:
        fd = _open("/", None, opened)
        parts = _parts(path)
        links = 0
        while parts and _keeps_what_is_root_s(fd):
            part = parts.pop(0)
            try:
                fd = _open(part, fd, opened)
            except FileNotFoundError:
                where = os.readlink(f"/proc/self/fd/{fd}")
                may = _is_of_root_alone(fd) and not _is_of_the_system(os.path.join(where, part))
                return may and _make([part, *parts], fd, account, opened)
            except OSError:  # a link, or no folder
                target = os.readlink(part, dir_fd=fd)
                links += 1
                if links > MOST_LINKS or os.lstat(part, dir_fd=fd).st_uid != 0:
                    return False
                parts = [*_parts(target), *parts]
                if os.path.isabs(target):
                    fd = _open("/", None, opened)
    return False


def _make(parts: list[str], fd: int, account: Account, opened: contextlib.ExitStack) -> bool:
    made = []
    for part in parts:
        if part == "..":
            return False
        os.mkdir(part, 0o755, dir_fd=fd)
        fd = _open(part, fd, opened)
        made.append(fd)
    for one in reversed(made):  # until then they are root's alone, and nobody can put anything into them
        os.fchown(one, account.uid, account.gid)
    return bool(made)


def _open(name: str, within: int | None, opened: contextlib.ExitStack) -> int:
    fd = os.open(name, FOLDER, dir_fd=within)
    opened.callback(os.close, fd)
    return fd


def _is_of_root_alone(fd: int) -> bool:
    found = os.fstat(fd)
    return found.st_uid == 0 and not found.st_mode & OTHERS_WRITE


def _keeps_what_is_root_s(fd: int) -> bool:
    """Whether nobody but root can put something else in the place of what is root's in it."""
    found = os.fstat(fd)
    return found.st_uid == 0 and (not found.st_mode & OTHERS_WRITE or bool(found.st_mode & stat.S_ISVTX))


def _is_of_the_system(path: str) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in OF_THE_SYSTEM)


def _parts(path: str) -> list[str]:
    return list(_named(path))


def _named(path: str) -> Iterator[str]:
    for part in path.split("/"):
        if part not in ("", "."):
            yield part
