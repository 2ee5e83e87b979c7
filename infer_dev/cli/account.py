"""What root does in the name of the account that `$INFER_DEV_USER` names."""

from __future__ import annotations

import contextlib
import os
import sys

from infer_dev.errors import ConfigError, InferDevError
from infer_dev.host.account import account_of
from infer_dev.host.private_dir import make_runtime_dir
from infer_dev.settings import RUNTIME_DIR_VAR, USER_VAR, runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def go_on_as_account(*, with_runtime_dir: bool = False) -> None:
    """Give up root and run this very command anew; returns if there is nothing to change.

    It is executed anew because only then its /proc/PID can be read by that user, and every library finds its home.
    Descriptors that are inheritable stay open.

    Args:
        with_runtime_dir: make the runtime directory for the account before, which it may not be able to do itself.

    Raises:
        ConfigError: there is no such account, or it may not run this program.
        UnavailableError: the runtime directory cannot be used.
    """
    account = account_of(os.environ)
    if account is None:
        return
    runtime = runtime_dir()
    if with_runtime_dir:
        make_runtime_dir(runtime, account)
    environ = account.environ(os.environ) | {RUNTIME_DIR_VAR: runtime}
    sys.stdout.flush()
    sys.stderr.flush()
    account.become()
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606 - no shell is wanted
    except OSError as err:
        raise ConfigError(
            f"cannot run {sys.executable} as the user {account.name!r} ({USER_VAR}): {err.strerror}",
            hint="let that user enter the folders above it, or install infer-dev elsewhere",
        ) from err


def give_log_folders(configs: Iterable[str]) -> None:
    """Make the log folders that are missing of what these files describe, where only root can, for the account.

    A file that cannot be used, or a folder that cannot be made, is left to the daemon to tell.

    Raises:
        ConfigError: there is no such account.
    """
    account = account_of(os.environ)
    if account is None:
        return
    from infer_dev.check.resolve import resolve_for_show, source_of_caller  # noqa: PLC0415 - pydantic
    from infer_dev.host.log_folder import make_log_folder  # noqa: PLC0415 - as above

    for config in configs:
        with contextlib.suppress(InferDevError):
            plan, _ = resolve_for_show(source_of_caller(config, os.environ), os.environ)
            for folder in {os.path.dirname(spec.command.log_file) for spec in plan.specs}:
                with contextlib.suppress(OSError):
                    make_log_folder(folder, account)
