"""Where the server is in an unpacked archive: our own layout, and those of llama.cpp's release archives."""

import fnmatch
import os
import stat
from dataclasses import dataclass

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.binary import rejection
from infer_dev.settings import SERVER_NAME

# Folders of the server, tried in this order below the root; "" is the flat archive (`llama-b1234/llama-server`).
BIN_FOLDERS = ("bin", "build/bin", "")
ARCHIVES = ("*.tar", "*.tar.*", "*.tgz", "*.txz", "*.tbz2", "*.zip")
MOST_NAMES = 8

HINT = "pack a folder that holds README* and bin/llama-server with its libraries: infer-dev bundle create"


@dataclass(frozen=True, slots=True)
class Layout:
    """What was found.

    Attributes:
        bin: the server's folder, relative to the unpacked tree.
        readmes: its README files, relative to the tree.
        warnings: what is missing, though not needed.
    """

    bin: str
    readmes: tuple[str, ...]
    warnings: tuple[str, ...]


def find_layout(tree: str) -> Layout:
    """The layout of an unpacked archive.

    Args:
        tree: the folder it was unpacked to.

    Raises:
        BundleError: there is no llama-server in it, or it cannot be executed.
    """
    root, folder = _server_folder(tree)
    server = os.path.join(tree, folder, SERVER_NAME)
    if reason := rejection(server):
        if os.path.isfile(server) and os.stat(server).st_mode & stat.S_IXUSR and _is_noexec(tree):
            raise BundleError(
                f"cannot use the bundle: the file system of {tree} is mounted noexec",
                hint="choose another place with --prefix, or mount it with exec",
            )
        raise BundleError(f"cannot use the bundle: {os.path.join(folder, SERVER_NAME)} {reason}", hint=HINT)
    readmes = tuple(
        os.path.normpath(os.path.join(place, name))
        for place in dict.fromkeys((os.path.normpath(root), folder))
        for name in sorted(os.listdir(os.path.join(tree, place)))
        if fnmatch.fnmatch(name, "README*") and os.path.isfile(os.path.join(tree, place, name))
    )
    warnings = []
    if not readmes:
        warnings.append("the bundle has no README* beside bin/")
    if not fnmatch.filter(os.listdir(os.path.join(tree, folder)), "*.so*"):
        warnings.append(f"the bundle has no libraries (*.so*) beside {SERVER_NAME}")
    return Layout(bin=folder, readmes=readmes, warnings=tuple(warnings))


def _is_noexec(folder: str) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)


def _server_folder(tree: str) -> tuple[str, str]:
    """The bundle's root and the server's folder, both relative to `tree`."""
    names = sorted(os.listdir(tree))
    folders = [name for name in names if os.path.isdir(os.path.join(tree, name))]
    roots = ["", *folders] if len(folders) == 1 else [""]
    for place in BIN_FOLDERS:
        for root in roots:
            folder = os.path.join(root, place)
            if os.path.lexists(os.path.join(tree, folder, SERVER_NAME)):
                return root, os.path.normpath(folder)
    if not names:
        raise BundleError("cannot use the bundle: the archive is empty", hint=HINT)
    inner = [name for name in names if any(fnmatch.fnmatch(name, kind) for kind in ARCHIVES)]
    shown = ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")
    raise BundleError(
        f"cannot use the bundle: it has no bin/{SERVER_NAME}; at its top: {shown}",
        hint=f"unpack {inner[0]} and install that" if inner else HINT,
    )
