"""What root does in the name of the account that `$INFER_DEV_USER` names."""

from __future__ import annotations

import contextlib
import json
import os
import sys

from infer_dev.errors import ConfigError, InferDevError, from_problem
from infer_dev.host.account import account_of
from infer_dev.host.runtime.folder import make_runtime_dir
from infer_dev.settings import BY_ROOT_VAR, RUNTIME_DIR_VAR, USER_VAR, runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from infer_dev.host.account import Account


def go_on_as_account(*, with_runtime_dir: bool = False, is_told: bool = False) -> None:
    """Give up root and run this very command anew; returns if there is nothing to change.

    It is executed anew because only then its /proc/PID can be read by that user, and every library finds its home.
    Descriptors that are inheritable stay open.

    Args:
        with_runtime_dir: make the runtime directory for the account before, which it may not be able to do itself.
        is_told: tell the command, by `$INFER_DEV_BY_ROOT`, that root could do more.

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
    environ = account.environ(os.environ) | {RUNTIME_DIR_VAR: runtime} | ({BY_ROOT_VAR: "1"} if is_told else {})
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


def reading_of_account(config: str, *, check: bool) -> dict[str, Any] | None:  # Any: a JSON document
    """As `check.ahead.read_ahead`, by a process of the account's: root must not read for it what it cannot.

    None where there is nothing to change, or that process could not tell; the daemon then reads it.

    Raises:
        InferDevError: the file cannot be used, or there is no such account.
    """
    account = account_of(os.environ)
    if account is None:
        return None
    path = os.path.abspath(config)  # the account may not be able to enter the current folder
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            _tell(path, account, writing, check=check)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    answer = json.loads(told) if told else {}
    if "problem" in answer:
        raise from_problem(answer["problem"])
    return answer.get("read")


def _tell(path: str, account: Account, writing: int, *, check: bool) -> None:
    """In the child: write what was read, or why nothing was."""
    from infer_dev.check.ahead import read_ahead  # noqa: PLC0415 - pydantic

    account.become()
    os.environ.update(account.environ(os.environ))  # `~` is asked of it, too
    try:
        answer = {"read": read_ahead(path, os.environ, check=check)}
    except InferDevError as err:
        answer = {"problem": err.as_problem()}
    with os.fdopen(writing, "w") as pipe:
        pipe.write(json.dumps(answer))  # whole or not at all


def give_log_folders_of(plan: Mapping[str, Any]) -> None:  # Any: a JSON document
    """As `give_log_folders`, of what a plan describes."""
    account = account_of(os.environ)
    if account is not None:
        _give(account, {os.path.dirname(spec["command"]["log_file"]) for spec in plan["specs"]})


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

    for config in configs:
        with contextlib.suppress(InferDevError):
            _, plan, _ = resolve_for_show(source_of_caller(config, os.environ), os.environ)
            _give(account, {os.path.dirname(spec.command.log_file) for spec in plan.specs})


def _give(account: Account, folders: Iterable[str]) -> None:
    from infer_dev.host.log.folder import make_log_folder  # noqa: PLC0415 - for these commands only

    for folder in folders:
        with contextlib.suppress(OSError):
            make_log_folder(folder, account)
