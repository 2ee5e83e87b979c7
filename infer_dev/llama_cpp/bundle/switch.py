"""The one step that makes another version current: a rename. Whoever looks finds the old server or the new one."""

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat

LINK_MARK = ".link-"

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# A filesystem that cannot exchange says one of these (man 2 rename); EXDEV: a folder of a lower overlayfs layer.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EOPNOTSUPP)


def point(link: str, target: str) -> None:
    """Make `link` a symbolic link to `target`, atomically: it exists at every moment.

    Args:
        link: a link, or nothing, is there now.
        target: what it shall lead to, relative to the link's real folder.
    """
    temporary = os.path.join(os.path.dirname(link), f"{LINK_MARK}{secrets.token_hex(4)}")
    try:
        os.symlink(target, temporary)
        os.replace(temporary, link)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(os.path.dirname(link))


def point_in_place_of(folder: str, target: str, keep: str) -> None:
    """Make the real `folder` a link to `target`, atomically; what it held is at `keep` afterwards.

    Where the filesystem cannot exchange two names, the folder is moved (or, off a lower overlayfs layer, copied) to
    `keep` first: then `folder` is missing for a moment, once in the life of an installation.
    """
    os.symlink(target, keep)
    if exchange(folder, keep):
        sync_folder(os.path.dirname(folder))
        return
    os.unlink(keep)
    try:
        os.rename(folder, keep)
    except OSError as err:
        if err.errno != errno.EXDEV:
            raise
        shutil.copytree(folder, keep, symlinks=True)
        shutil.rmtree(folder)
    point(folder, target)


def exchange(one: str, other: str) -> bool:
    """Swap two names of any kind in one step; False where the filesystem cannot.

    Raises:
        OSError: any other reason.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        renameat2 = libc.renameat2
    except AttributeError:
        return False
    if not renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), one, None, other)


def sync_folder(folder: str) -> None:
    """Have a folder's names written to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Some network and FUSE filesystems have no fsync of folders.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(tree: str) -> None:
    """Have all of a tree written to the disk: after a power cut it must not be half there.

    File by file, because `syncfs` would wait for what everyone else has written, too.

    Raises:
        OSError: it cannot be written (the disk is full, broken).
    """
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        sync_folder(folder)


def remove_tree(tree: str) -> None:
    """Delete a tree, also one with folders that may not be written. Of a link, nothing but the link."""
    if os.path.islink(tree) or not os.path.isdir(tree):
        with contextlib.suppress(OSError):
            os.unlink(tree)
        return
    try:
        shutil.rmtree(tree)
    except OSError:
        for folder, _, _ in os.walk(tree):
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o700)
        shutil.rmtree(tree, ignore_errors=True)
