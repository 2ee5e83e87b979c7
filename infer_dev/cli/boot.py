"""`infer-dev boot`: the container's entry. It reads no options but its own first word: the rest is the command's."""

from __future__ import annotations

import os
import sys

from infer_dev.errors import EXIT_OK, UsageError

USAGE = """\
Usage: infer-dev boot [--] [COMMAND [ARGUMENT]…]

Runs COMMAND and, beside it, the daemon that keeps the instances alive; reaps orphans; ends everything when COMMAND
ends or SIGTERM comes. Exits as COMMAND does. Without COMMAND it runs until SIGTERM. Meant to be a container's
entrypoint; docs/boot.md says what it does with signals, and which variables it reads."""


def boot(*argv: str) -> int:
    """Run a command as the container's main one; returns its exit status."""
    match argv:
        case ["--help" | "-h"]:
            print(USAGE)
            return EXIT_OK
        case ["--", *rest]:
            command = rest
        case [first, *_] if first.startswith("-"):
            raise UsageError(f"cannot boot: no such option: {first}", hint="put -- before a command that starts so")
        case _:
            command = list(argv)
    from infer_dev.boot.boot import Boot  # noqa: PLC0415 - for this command only

    sys.stdout.flush()
    return Boot(command, os.environ).run()
