"""The note in the runtime directory by which others know that boot keeps a daemon there."""

from __future__ import annotations

import os

from infer_dev.errors import InferDevError
from infer_dev.host.procstat import start_time
from infer_dev.settings import BOOT_NOTE_NAME, runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def leave_note(environ: Mapping[str, str]) -> None:
    """Write it; without, `up` may start a daemon itself where boot would have."""
    runtime = runtime_dir(environ)
    path = os.path.join(runtime, BOOT_NOTE_NAME)
    try:
        os.makedirs(runtime, mode=0o700, exist_ok=True)
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(f"{os.getpid()} {start_time(os.getpid())}\n")
        os.replace(f"{path}.new", path)
    except (OSError, InferDevError):
        return


def take_note(environ: Mapping[str, str]) -> None:
    """Remove it."""
    try:
        os.unlink(os.path.join(runtime_dir(environ), BOOT_NOTE_NAME))
    except OSError:
        return


def boot_lives(runtime: str) -> bool:
    """Whether the boot that left a note in `runtime` still runs."""
    try:
        with open(os.path.join(runtime, BOOT_NOTE_NAME), encoding="ascii") as file:
            pid, started = map(int, file.read().split())
    except (OSError, ValueError):
        return False
    return start_time(pid) == started
