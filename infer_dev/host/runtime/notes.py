"""Short files that boot leaves in the runtime directory, which may be another user's than its own.

Nothing there can be trusted by root: no link is followed, and a file is only ever replaced as a whole.
"""

from __future__ import annotations

import os
import stat

from infer_dev.host.runtime.folder import NOT_THROUGH_LINKS
from infer_dev.settings import BOOT_ERROR_NAME

READ_BYTES = 64 * 1024
FOR_ALL_TO_READ = 0o644
INDENT = "  "
# How boot's errors about its two steps begin.
NO_BUNDLE, NO_INSTANCES = "cannot install the llama.cpp bundle", "cannot start the instances"


def leave(folder: str, name: str, text: str) -> None:
    """Write a file, for everybody to read who may enter the folder.

    Raises:
        OSError: it cannot be written.
    """
    where = os.open(folder, os.O_PATH | os.O_DIRECTORY | NOT_THROUGH_LINKS)
    new = f".{name}.{os.getpid()}"
    try:
        _remove(new, where)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOT_THROUGH_LINKS, FOR_ALL_TO_READ, dir_fd=where)
        try:
            os.fchmod(fd, FOR_ALL_TO_READ)  # whatever the umask says
            data = text.encode(errors="replace")
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        os.rename(new, name, src_dir_fd=where, dst_dir_fd=where)
    finally:
        os.close(where)


def remove(folder: str, name: str) -> None:
    """Remove a file, if there is one.

    Raises:
        OSError: it cannot be removed.
    """
    try:
        where = os.open(folder, os.O_PATH | os.O_DIRECTORY | NOT_THROUGH_LINKS)
    except FileNotFoundError:
        return
    try:
        _remove(name, where)
    finally:
        os.close(where)


def read(folder: str, name: str) -> str:
    """The text of a file, its first 64 KiB; "" if there is none that can be read."""
    try:
        fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | NOT_THROUGH_LINKS)
    except OSError:
        return ""
    try:
        return os.read(fd, READ_BYTES).decode(errors="replace") if stat.S_ISREG(os.fstat(fd).st_mode) else ""
    except OSError:
        return ""
    finally:
        os.close(fd)


def leave_boot_errors(folder: str, errors: list[str]) -> None:
    """Write what boot could not do, each error with the lines that explain it; none: the file is removed.

    Raises:
        OSError: it cannot be written.
    """
    if errors:
        indented = (error.rstrip().replace("\n", f"\n{INDENT}") for error in errors)
        leave(folder, BOOT_ERROR_NAME, "".join(f"{error}\n" for error in indented))
    else:
        remove(folder, BOOT_ERROR_NAME)


def boot_errors(folder: str) -> list[str]:
    """What boot could not do, as `leave_boot_errors` got it; what is in it may come from anybody."""
    errors: list[str] = []
    for line in read(folder, BOOT_ERROR_NAME).splitlines():
        if line.startswith(INDENT) and errors:
            errors[-1] += f"\n{line.removeprefix(INDENT)}"
        elif line:
            errors.append(line)
    return errors


def clear_boot_errors(folder: str, beginning: str) -> None:
    """Take out the errors that begin so: somebody has done by hand since what boot could not.

    Raises:
        OSError: the others cannot be written.
    """
    told = boot_errors(folder)
    left = [error for error in told if not error.startswith(beginning)]
    if left != told:
        leave_boot_errors(folder, left)


def _remove(name: str, where: int) -> None:
    try:
        os.unlink(name, dir_fd=where)
    except FileNotFoundError:
        return
