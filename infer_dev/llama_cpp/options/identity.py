"""Whether a llama-server is still the same one: by the files it is made of, without running it."""

import json
import os
import re
from collections.abc import Iterator
from hashlib import sha256

from infer_dev import __version__

FORMAT = 1  # of what is kept; another one does not read it
_OURS = ("llama", "libllama", "libggml", "libmtmd")
_SCRIPT_LIMIT_BYTES = 1 << 16
_PATH = re.compile(rb"/[^\s\"'$;|&()<>]+")


def identity(binary: str, libraries: str) -> str:
    """64 hexadecimal digits that are others for another server.

    The options may be compiled into a library, and the binary may be a script that starts another one. So this goes
    by the binary, llama.cpp's files beside it and in the folders of `libraries`, and the files that a script names.

    Args:
        binary: its path.
        libraries: its LD_LIBRARY_PATH.

    Raises:
        OSError: there is no such file.
    """
    real = os.path.realpath(binary)
    folders = dict.fromkeys((os.path.dirname(real), os.path.dirname(binary), *filter(None, libraries.split(":"))))
    files = [_stamp(real), *(_stamp(path) for path in _named_in(real))]
    parts = [entry for folder in folders for entry in _parts(folder)]
    whole = json.dumps([__version__, FORMAT, binary, real, libraries, files, sorted(parts)])
    return sha256(whole.encode(errors="surrogateescape")).hexdigest()


def _stamp(path: str, found: os.stat_result | None = None) -> tuple[str, int, int, int, int]:
    found = found or os.stat(path)
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _parts(folder: str) -> Iterator[tuple[str, int, int, int, int]]:
    try:
        with os.scandir(folder) as entries:
            # Not all there is: beside a binary in /usr/bin stand thousands.
            found = [(entry.path, entry.stat()) for entry in entries if entry.name.startswith(_OURS)]
    except OSError:  # no such folder, a link to nowhere
        return
    for path, stat in found:
        yield _stamp(path, stat)


def _named_in(path: str) -> Iterator[str]:
    """The programs that a script names by their whole path, but no log it may write; none for a program."""
    with open(path, "rb") as file:
        if file.read(2) != b"#!":
            return
        text = file.read(_SCRIPT_LIMIT_BYTES)
    for name in dict.fromkeys(_PATH.findall(text)):
        if os.path.isfile(name) and os.access(name, os.X_OK):
            yield os.fsdecode(name)
