"""The runtime directory as a folder: one user's, and nobody else can write it. Boot imports it, so it is small."""

from __future__ import annotations

import errno
import os
import stat

from infer_dev.errors import UnavailableError
from infer_dev.settings import RUNTIME_DIR_VAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from infer_dev.host.account import Account

_HINT = f"set {RUNTIME_DIR_VAR} to a folder of your own"
OTHERS_WRITE = 0o022
NOT_THROUGH_LINKS = os.O_NOFOLLOW | os.O_CLOEXEC


def make_runtime_dir(path: str, account: Account | None = None) -> None:
    """Make `path` with mode 0700, or accept it if it is ours and nobody else can write it.

    Args:
        path: of the folder.
        account: whose folder it shall be, if root makes it for another one.

    Raises:
        UnavailableError: it cannot be made, or belongs to somebody else (in /tmp anybody could have made it).
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
        if account is not None and stat.S_ISDIR(found.st_mode) and _is_of_root_alone(found):
            _give(path, account)
            found = os.lstat(path)
    except OSError as err:
        raise UnavailableError(f"cannot make the runtime directory {path}: {err.strerror}", hint=_HINT) from err
    if not stat.S_ISDIR(found.st_mode):
        raise UnavailableError(f"cannot use the runtime directory {path}: it is no folder", hint=_HINT)
    if account is None and not os.access(path, os.W_OK | os.X_OK):
        raise UnavailableError(f"cannot use the runtime directory {path}: this user cannot write it", hint=_HINT)
    owners = (os.getuid(), 0) if account is None else (account.uid,)
    if found.st_uid not in owners or found.st_mode & OTHERS_WRITE:
        raise UnavailableError(
            f"cannot use the runtime directory {path}: others can write it (owner {found.st_uid}, "
            f"mode {stat.S_IMODE(found.st_mode):o})",
            hint=_HINT,
        )


def open_log_of(path: str, account: Account) -> int:
    """A descriptor by which root appends to a log in a folder of the account's, which gets the file.

    Raises:
        OSError: it cannot be opened, or something else has been put there.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | NOT_THROUGH_LINKS
    fd = os.open(path, flags, 0o600)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid in (0, account.uid):
        os.fchown(fd, account.uid, account.gid)
        return fd
    os.close(fd)
    raise OSError(errno.EPERM, "something else has been put there", path)


def _is_of_root_alone(found: os.stat_result) -> bool:
    return found.st_uid == 0 and not found.st_mode & OTHERS_WRITE


def _give(path: str, account: Account) -> None:
    """Give a folder of root's alone to the account, with what a daemon of root's left there."""
    with_links = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NOT_THROUGH_LINKS)
    try:
        # The folder comes last: until then nobody but root can change what is in it.
        for _, folders, files, fd in os.fwalk(".", topdown=False, dir_fd=with_links):
            for name in (*folders, *files):
                os.chown(name, account.uid, account.gid, dir_fd=fd, follow_symlinks=False)
        os.fchmod(with_links, 0o700)
        os.fchown(with_links, account.uid, account.gid)
    finally:
        os.close(with_links)
