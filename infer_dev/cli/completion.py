"""`infer-dev completion SHELL`: click's completion script for this program."""

import click
from click.shell_completion import get_completion_class

from infer_dev.cli.commands import COMPLETE_VAR
from infer_dev.errors import EXIT_OK, UsageError


def completion(shell: str, *, group: click.Group) -> int:
    """Print the script; to be sourced, or saved where the shell looks for completions."""
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"cannot complete in {shell}", hint="bash, zsh and fish are supported")
    print(kind(group, {}, "infer-dev", COMPLETE_VAR).source())
    return EXIT_OK
