"""Whether `bundle install` has nothing to do: known before anything slow to import (click, dataclasses) is."""

from __future__ import annotations

import os
import sys

from infer_dev.cli.boot_step import bundle_is_installed
from infer_dev.llama_cpp.bundle import scripts
from infer_dev.llama_cpp.bundle.prefix import Prefix
from infer_dev.settings import PKG_PATH_VAR, bundle_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from infer_dev.llama_cpp.bundle.prefix import Version

_OPTIONS = {"--prefix": "", "--sha256": ""}


def is_installed(args: list[str]) -> bool:
    """Whether `bundle install ARGS` finds the same archive installed already; says so if it does.

    False also for anything it does not understand: the long way will.
    """
    options, plain = dict(_OPTIONS), []
    left = iter(args)
    for arg in left:
        name, given, value = arg.partition("=")
        if name in options:
            options[name] = value if given else next(left, "")
            if not options[name]:
                return False
        elif arg.startswith("-"):
            return False
        else:
            plain.append(arg)
    archive = plain[0] if plain else os.environ.get(PKG_PATH_VAR, "")
    if len(plain) > 1 or not archive:
        return False
    prefix = Prefix(options["--prefix"] or bundle_prefix())
    version = prefix.installed_already(archive, options["--sha256"])
    if version is None or not scripts.are_there(prefix.home):
        return False
    tell_installed(version)
    bundle_is_installed(archive)
    return True


def tell_installed(version: Version) -> None:
    """Say that there was nothing to do."""
    print(f"installed already: llama.cpp {version.label()} as {version.id}", file=sys.stderr)
