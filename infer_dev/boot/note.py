"""The note in the runtime directory by which others know that boot keeps a daemon there."""

from __future__ import annotations

import os

from infer_dev.errors import ConfigError, InferDevError
from infer_dev.host.account import account_of
from infer_dev.host.process.stat import start_time
from infer_dev.host.runtime.folder import make_runtime_dir
from infer_dev.host.runtime.notes import leave, read, remove
from infer_dev.settings import BOOT_NOTE_NAME, runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def leave_note(environ: Mapping[str, str]) -> None:
    """Write it into the folder that the daemon will have; without, `up` may start one where boot would have."""
    runtime = runtime_dir(environ)
    try:
        account = account_of(environ)
    except ConfigError:  # as the daemon's keeper tells
        account = None
    try:
        make_runtime_dir(runtime, account)
        leave(runtime, BOOT_NOTE_NAME, f"{os.getpid()} {start_time(os.getpid())}\n")
    except (OSError, InferDevError):
        return


def take_note(environ: Mapping[str, str]) -> None:
    """Remove it."""
    try:
        remove(runtime_dir(environ), BOOT_NOTE_NAME)
    except OSError:
        return


def boot_lives(runtime: str) -> bool:
    """Whether the boot that left a note in `runtime` still runs."""
    try:
        pid, started = map(int, read(runtime, BOOT_NOTE_NAME).split())
    except ValueError:
        return False
    return start_time(pid) == started
