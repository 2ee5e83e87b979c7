"""The file that holds the API's token."""

import os
import re
import stat

from infer_dev.errors import ConfigError

MAX_BYTES = 4096
USABLE = re.compile(r"[!-~]+")
OTHERS = 0o077
NAME_IT = "name the file that holds the token"
HINTS = {
    PermissionError: "let the daemon's user read it, and nobody else",
    IsADirectoryError: NAME_IT,
    NotADirectoryError: NAME_IT,
}


def identity(path: str) -> tuple[int, ...] | None:
    """Numbers that change with the file; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns)


def read_token(path: str) -> tuple[str, str]:
    """The token in a file, and what to say about the file, "" if nothing.

    Raises:
        ConfigError: it cannot be read, or does not hold one token.
    """
    hint = "write one with: openssl rand -hex 32"
    try:
        # Not blocking: what was named may be a pipe.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"cannot read the token in {path}: no regular file", hint=NAME_IT)
            text = file.read(MAX_BYTES + 1).decode("ascii").strip()
    except OSError as err:
        next_step = HINTS.get(type(err), hint)
        raise ConfigError(f"cannot read the token in {path}: {err.strerror}", hint=next_step) from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"cannot read the token in {path}: not ASCII", hint=hint) from err
    if not text:
        raise ConfigError(f"cannot use the token in {path}: the file is empty", hint=hint)
    if not USABLE.fullmatch(text) or len(text) > MAX_BYTES:
        raise ConfigError(
            f"cannot use the token in {path}: not one word of at most {MAX_BYTES} characters", hint=hint
        )
    return text, f"others may read the token: chmod 600 {path}" if found.st_mode & OTHERS else ""
