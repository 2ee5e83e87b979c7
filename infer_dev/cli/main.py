"""The console script: finds the command, turns errors into messages and exit statuses."""

from __future__ import annotations

import atexit
import errno
import os
import sys

from infer_dev import __version__
from infer_dev.cli.commands import COMMANDS, COMPLETE_VAR, overview, run_command
from infer_dev.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, InferDevError
from infer_dev.settings import other_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


EXIT_INTERRUPTED = 130
EXIT_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; those of this process by default.

    Returns:
        The exit status (see `infer_dev.errors`).
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        _become_user_of_bundles(args)
        status = _dispatch(args)
        sys.stdout.flush()
    except InferDevError as err:
        from infer_dev.host.printable import printable  # noqa: PLC0415 - for an error only

        print(f"infer-dev: {printable(err.message)}", file=sys.stderr)
        if err.hint:
            print(f"  hint: {printable(err.hint)}", file=sys.stderr)
        return err.exit_status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`infer-dev logs x | head`); keep the interpreter from complaining at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except OSError as err:
        if err.errno != errno.ENOSPC:
            raise
        print(f"infer-dev: cannot write the output: {err.strerror}", file=sys.stderr)
        return EXIT_FAILED
    return status


def run() -> NoReturn:
    """The console script: as `main`, but without taking the interpreter down in good order, which takes 10 ms.

    What that would do is done here: output is flushed, and what others registered with `atexit` is run.
    """
    _open_what_is_closed()
    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or EXIT_PIPE
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public name for it
    os._exit(status)


def _open_what_is_closed() -> None:
    """Give a call with closed streams (`>&-`) /dev/null instead.

    Python sets them to None, and their numbers would go to the next files opened.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until the end


def _become_user_of_bundles(args: list[str]) -> None:
    """What is installed belongs to who runs it; and root in a container may not see which version is in use."""
    if args[:1] == ["bundle"] and args[1:2] != ["create"] and other_user():
        from infer_dev.cli.account import go_on_as_account  # noqa: PLC0415 - for root only

        go_on_as_account()


def _dispatch(args: list[str]) -> int:
    if COMPLETE_VAR not in os.environ:
        match args:
            case [] | ["--help" | "-h" | "help"]:
                print(overview())
                return EXIT_OK
            case ["--version" | "-V"]:
                print(f"infer-dev {__version__}")
                return EXIT_OK
            case ["boot", *rest]:  # its arguments are another command's: none of them is ours to parse
                return run_command("boot", *rest)
            case ["bundle", "install", *rest]:
                from infer_dev.cli.unchanged import is_installed  # noqa: PLC0415 - for this command only

                if is_installed(rest):
                    return EXIT_OK
            case [name, *plain] if name in COMMANDS and not any(arg.startswith("-") for arg in plain):
                command = COMMANDS[name]
                if command.least is not None and command.least <= len(plain) <= command.most:
                    return run_command(name, *plain)
            case [name, *_] if not name.startswith("-") and name not in COMMANDS:
                return _unknown(name)
    from infer_dev.cli.parser import parse_and_run  # noqa: PLC0415 - click, only where there are options

    return parse_and_run(args)


def _unknown(name: str) -> int:
    from difflib import get_close_matches  # noqa: PLC0415 - needed for a typing mistake only

    near = get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean `infer-dev {near[0]}`?" if near else "see `infer-dev --help`"
    print(f"infer-dev: cannot run {name!r}: no such command\n  hint: {hint}", file=sys.stderr)
    return EXIT_USAGE
