"""Which files make a bundle of a llama.cpp server: what lies beside it, and what those files need."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.elf import read_elf
from infer_dev.settings import SERVER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN_FOLDERS = ("bin", "build/bin", "")
# Where `cmake --install` and distributions put what the server loads, seen from its own folder.
LIBRARY_FOLDERS = ("llama", "ggml", "../lib", "../lib64", "../lib/llama", "../lib/ggml")
HINT = "name llama.cpp's folder, its build folder, or the one llama-server is in"
LDD_TIMEOUT_S = 60.0

# libc's libraries are of one piece with the loader of the machine, and the driver's with its kernel module.
_NOT_OURS = re.compile(r"(ld-linux.*|lib(c|m|mvec|dl|pthread|rt|util|resolv|anl|nss_\w+|cuda|nvidia-.*))\.so")
_LIBRARY = re.compile(r".+\.so(\.\d+)*")
_LDD_LINE = re.compile(r"^\s+(\S+) => (/.*) \(0x", re.MULTILINE)
_BESIDE_BIN = re.compile(rb"\.\./([A-Za-z0-9][\w.-]*)")
_SCRIPT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Gathered:
    """The files of a bundle.

    Attributes:
        folder: where the server is.
        files: name in the bundle → the file.
        links: name in the bundle → where the link leads.
        missing: libraries that are needed and not in the bundle.
    """

    folder: str
    files: dict[str, str]
    links: dict[str, str]
    missing: tuple[str, ...]


def gather(from_dir: str, *, with_system_libraries: bool, leave_out: str = "") -> Gathered:
    """Find a server and what belongs to it, but never `leave_out`: the bundle of last time.

    Raises:
        BundleError: there is no server, or a link that leads nowhere.
    """
    folder = _server_folder(from_dir)
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    for name in sorted(os.listdir(folder)):
        if name == SERVER_NAME or name.startswith(f"{SERVER_NAME}.") or _LIBRARY.fullmatch(name):
            _take(folder, name, files, links)
    for name in _folders_beside(folder):
        files |= dict(_all_files(os.path.join(folder, "..", name), name))
    files = {name: path for name, path in files.items() if not _is_same(path, leave_out)}
    missing = _add_needed(folder, files, links, with_system_libraries=with_system_libraries)
    return Gathered(folder=folder, files=files, links=links, missing=missing)


def _is_same(path: str, other: str) -> bool:
    return os.path.exists(other) and os.path.samefile(path, other)


def _server_folder(from_dir: str) -> str:
    for place in BIN_FOLDERS:
        folder = os.path.normpath(os.path.join(from_dir, place))
        server = os.path.join(folder, SERVER_NAME)
        if os.path.isfile(server):
            if not os.access(server, os.X_OK):
                raise BundleError(f"cannot make a bundle: {server} is not executable", hint="chmod +x it")
            return folder
    tried = ", ".join(os.path.join(place, SERVER_NAME) for place in BIN_FOLDERS)
    raise BundleError(f"cannot make a bundle from {from_dir}: none of {tried} is there", hint=HINT)


def _take(folder: str, name: str, files: dict[str, str], links: dict[str, str]) -> None:
    """Put a file or link of the server's folder into the bundle; a link to elsewhere becomes the file."""
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        if os.path.islink(path):
            raise BundleError(f"cannot make a bundle: {path} is a link to nowhere", hint="remove or correct the link")
        return
    target = os.readlink(path) if os.path.islink(path) else ""
    if target and "/" not in target and _LIBRARY.fullmatch(target):
        links[f"bin/{name}"] = target
    else:
        files[f"bin/{name}"] = path


def _folders_beside(folder: str) -> list[str]:
    """Folders beside `bin/` that a server that is a script speaks of (`$here/../libc`)."""
    with open(os.path.join(folder, SERVER_NAME), "rb") as file:
        head = file.read(_SCRIPT_BYTES)
    if not head.startswith(b"#!"):
        return []
    named = sorted({found[1].decode() for found in _BESIDE_BIN.finditer(head)} - {"bin"})
    return [name for name in named if os.path.isdir(os.path.join(folder, "..", name))]


def _all_files(folder: str, name: str) -> Iterator[tuple[str, str]]:
    for place, folders, found in os.walk(folder):
        folders.sort()
        for one in sorted(found):
            path = os.path.join(place, one)
            if os.path.isfile(path):
                yield f"{name}/{os.path.relpath(path, folder)}", path


def _add_needed(
    folder: str, files: dict[str, str], links: dict[str, str], *, with_system_libraries: bool
) -> tuple[str, ...]:
    """Add what the files need and lies near, or anywhere if asked; what the system is to bring is returned."""
    beside = {os.path.basename(name) for name in (*files, *links)}
    todo = sorted(files.values())
    missing: set[str] = set()
    while todo:
        path = todo.pop()
        elf = read_elf(path)
        near = [os.path.join(folder, place) for place in LIBRARY_FOLDERS]
        for name in elf.needed if elf else ():
            if name in beside or _NOT_OURS.match(name):
                continue
            found = next((os.path.join(at, name) for at in near if os.path.isfile(os.path.join(at, name))), "")
            if not found and with_system_libraries:
                found = _resolved(path, folder).get(name, "")
            if found:
                beside.add(name)
                files[f"bin/{name}"] = found
                todo.append(found)
            else:
                missing.add(name)
    return tuple(sorted(missing))


def _resolved(path: str, folder: str) -> dict[str, str]:
    """What the loader of this machine takes for the libraries that `path` needs."""
    environ = {**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": folder}
    try:
        said = subprocess.run(
            ["ldd", path],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LDD_TIMEOUT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as err:
        raise BundleError(f"cannot find the libraries of {path}: {err}", hint="ldd is needed for this") from err
    return {match[1]: match[2] for match in _LDD_LINE.finditer(said)}
